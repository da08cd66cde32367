"""Write stack files for `fleet enrol` and `fleet pin`: set a host key or a pinned name, and leave every other line as it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet import errors, ssh
from fleet.ssh.host_keys import Key
from fleet.stack import validation_errors

NODES = "glm-fleet:nodes"
PINNED = ("ssh", "redfish")  # the sources whose machines may have a host key of their own


class Document:
    """A YAML file that is read and written with its comments, its order and its quotes."""

    def __init__(self, path: Path) -> None:
        from ruamel.yaml import YAML
        from ruamel.yaml.util import load_yaml_guess_indent

        text = path.read_text() if path.is_file() else ""
        _, dash, offset = load_yaml_guess_indent(text)
        self._yaml = YAML()
        self._yaml.preserve_quotes = True
        self._yaml.width = 1 << 16  # no line is broken
        self._yaml.indent(mapping=2, sequence=dash or 4, offset=offset if dash else 2)
        self._path = path
        self.content: Any = self._yaml.load(text) or {}

    def write(self) -> None:
        """Write the file."""
        with self._path.open("w") as file:
            self._yaml.dump(self.content, file)


@dataclass(frozen=True)
class Edit:
    """One value of a stack file that becomes another: keys below `config` (of a machine: nodes, its name, its keys), and a comment."""

    path: tuple[str, ...]
    old: str
    new: str
    comment: str


def write(path: Path, name: str, edits: Sequence[Edit]) -> list[str]:
    """Set values in a stack file, and in the files that it names for its machines; return the names of those that were written.

    SettingsError, before anything is written, for a value that does not stand on one line by itself: an alias, a block.
    """
    texts: dict[Path, str] = {}
    for edit in edits:
        file, keys = _place(path, edit.path)
        label = str(Path(name).parent / file.name)
        texts[file] = edited(texts.get(file) or file.read_text(), keys, edit, label)
    for file, text in texts.items():
        beside = file.with_name(f".{file.name}.new")
        beside.write_text(text)
        beside.chmod(file.stat().st_mode & 0o777)
        beside.replace(file)
    return [str(Path(name).parent / file.name) for file in texts]


def edited(text: str, keys: Sequence[str | int], edit: Edit, file: str) -> str:
    """Return a YAML text in which one value, on one line, is another one, with the comment at the end of that line."""
    from ruamel.yaml import YAML

    wanted = yaml.safe_load(text)
    node, place = YAML().load(text), wanted
    for key in keys[:-1]:
        node, place = node[key], place[key]
    place[keys[-1]] = edit.new
    lines = text.splitlines(keepends=True)
    row, column = node.lc.value(keys[-1]) if keys[-1] in (node.lc.data or {}) else (0, 0)
    line = lines[row].rstrip("\n")
    for written in (f'"{edit.old}"', f"'{edit.old}'", edit.old):
        if not line[column:].startswith(written):
            continue
        after = line[column + len(written) :].rstrip()
        for sign in ("; ", " # "):  # behind a comment that is there; what only looks like one does not compare
            lines[row] = f'{line[:column]}"{edit.new}"{after}{sign}{edit.comment}\n'
            if _same(new := "".join(lines), wanted):
                return new
    raise errors.SettingsError(
        file=file,
        key=".".join(map(str, keys)),
        value=edit.old,
        seen="does not stand on one line by itself",
        allowed=f"a plain value; or write {edit.new} by hand",
    )


def _same(text: str, wanted: Any) -> bool:
    try:
        return bool(yaml.safe_load(text) == wanted)
    except yaml.YAMLError:
        return False


def _place(path: Path, keys: Sequence[str]) -> tuple[Path, list[str | int]]:
    """Return the file in which a value stands, and its keys there: machines may have a file of their own."""
    if keys[0] != NODES:
        return path, ["config", *keys]
    nodes = yaml.safe_load(path.read_text())["config"][NODES]
    for place, source in enumerate(nodes if isinstance(nodes, list) else [nodes]):
        if isinstance(named := source.get("machines"), str):
            if keys[1] in yaml.safe_load((path.parent / named).read_text()):
                return path.parent / named, list(keys[1:])
        elif keys[1] in (named or {}):
            return path, ["config", NODES, *([place] if isinstance(nodes, list) else []), "machines", *keys[1:]]
    raise KeyError(keys[1])  # a machine that the settings have and no file


@dataclass
class Pool:
    """The machines of one of these sources as they stand in a file: in the stack's, or in one of their own that it names."""

    defaults: Mapping[str, Any]
    machines: Any
    document: Document
    file: str


class StackFile:
    """A stack file, and those that it names for its machines: those of its sources that pin host keys."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        stack = Document(path)
        nodes = (stack.content.get("config") or {}).get(NODES) or {}
        sources = nodes if isinstance(nodes, list) else [nodes]
        self._pools = [self._pool(stack, path.parent, one) for one in sources if one.get("source") in PINNED]
        if not self._pools:
            named = " and ".join(str(one["source"]) for one in sources if one.get("source"))
            raise errors.SettingsError(
                file=name,
                key="nodes.source",
                seen=f"is {named}" if named else "there is no such file, or it has no nodes",
                allowed="ssh: machines of other sources bring their host keys with them",
            )

    def targets(self, nodes: Sequence[str]) -> dict[str, ssh.Target]:
        """Return how to reach each of NODE (in the file) or NODE=ADDRESS (to be added); SettingsError for one that is neither."""
        return {node.partition("=")[0]: self._target(*node.partition("=")[::2]) for node in nodes}

    def pin(self, node: str, key: Key, address: str) -> str:
        """Set a machine's host key, and return in which file; a machine that is not there yet gets its address, too."""
        from ruamel.yaml.comments import CommentedMap
        from ruamel.yaml.scalarstring import DoubleQuotedScalarString

        pool = self._of(node)
        if node not in pool.machines:
            pool.machines[node] = CommentedMap(address=address)
            pool.machines[node].fa.set_flow_style()
        pool.machines[node]["host_key"] = DoubleQuotedScalarString(str(key))
        pool.document.write()
        return pool.file

    def _pool(self, stack: Document, folder: Path, source: Any) -> Pool:
        """Return the machines of one source of the stack file."""
        document, file = stack, self.name
        if isinstance(named := source.get("machines"), str):
            document, file = Document(folder / named), f"{Path(self.name).parent}/{named}"
            machines = document.content
        elif named is None:
            machines = source["machines"] = {}
        else:
            machines = named
        return Pool(source.get("defaults") or {}, machines, document, file)

    def _of(self, node: str) -> Pool:
        """The source that has a machine; a new one goes to the first."""
        return next((pool for pool in self._pools if node in pool.machines), self._pools[0])

    def _target(self, node: str, address: str) -> ssh.Target:
        pool = self._of(node)
        own = pool.machines.get(node)
        if own is None and not address:
            known = [name for one in self._pools for name in one.machines]
            raise errors.SettingsError(
                file=self.name,
                key="nodes.machines",
                value=node,
                seen="no machine has this name",
                allowed=f"one of {', '.join(known)}, or {node}=ADDRESS to add it",
                nearest=validation_errors.nearest(node, known),
            )
        inputs = {**pool.defaults, **(own or {}), **({"address": address} if address else {})}
        if not inputs.get("address"):
            key = f"nodes.machines.{node}.address"
            raise errors.SettingsError(
                file=self.name, key=key, seen="this key is missing", allowed=validation_errors.MISSING["address"]
            )
        return ssh.Target.from_inputs({**inputs, "name": node})
