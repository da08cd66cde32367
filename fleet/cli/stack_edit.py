"""Change stack files for `fleet enrol` and `fleet pin`: set a host key or a pinned name, and keep every other line. Needs ruamel.yaml.

stack_entries.py adds and removes whole entries, served_edit.py restores what served.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet import errors, ssh
from fleet.ssh.host_keys import Key
from fleet.stack import validation_errors

NODES = "glm-fleet:nodes"
PINNED = ("ssh", "redfish")  # the sources whose machines may have a host key in the stack file


class Document:
    """A YAML file that keeps its comments, order and quotes when it is written."""

    def __init__(self, path: Path) -> None:
        from ruamel.yaml import YAML
        from ruamel.yaml.util import load_yaml_guess_indent

        text = path.read_text() if path.is_file() else ""
        _, dash, offset = load_yaml_guess_indent(text)
        self._yaml = YAML()
        self._yaml.preserve_quotes = True
        self._yaml.width = 1 << 16  # breaks no line
        self._yaml.indent(mapping=2, sequence=dash or 4, offset=offset if dash else 2)
        self._path = path
        self.content: Any = self._yaml.load(text) or {}

    def text(self) -> str:
        """Return the content as YAML."""
        stream = io.StringIO()
        self._yaml.dump(self.content, stream)
        return stream.getvalue()

    def write(self) -> None:
        """Write the file."""
        self._path.write_text(self.text())


@dataclass(frozen=True)
class Edit:
    """A new value in a stack file, with a comment. `path` has the keys below `config` (of a machine: nodes, its name, its keys)."""

    path: tuple[str, ...]
    old: str
    new: str
    comment: str


def write(path: Path, name: str, edits: Sequence[Edit]) -> list[str]:
    """Set values in a stack file and in its files of machines. Returns the names of the written files.

    Raises SettingsError, before it writes anything, for a value that is not alone on one line: an alias, a block.
    """
    texts: dict[Path, str] = {}
    for edit in edits:
        file, keys = _place(path, edit.path)
        label = str(Path(name).parent / file.name)
        texts[file] = edited(texts.get(file) or file.read_text(), keys, edit, label)
    for file, text in texts.items():
        replace(file, text)
    return [str(Path(name).parent / file.name) for file in texts]


def replace(file: Path, text: str) -> None:
    """Replace a file's content at once; its mode stays."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.chmod(file.stat().st_mode & 0o777)
    new.replace(file)


def edited(text: str, keys: Sequence[str | int], edit: Edit, file: str) -> str:
    """Return a YAML text with the edit's value and, at the end of its line, the comment. Raises SettingsError, see `write`."""
    from ruamel.yaml import YAML

    content = yaml.safe_load(text)
    node, mapping = YAML().load(text), content
    for key in keys[:-1]:
        node, mapping = node[key], mapping[key]
    mapping[keys[-1]] = edit.new
    lines = text.splitlines(keepends=True)
    row, column = node.lc.value(keys[-1]) if keys[-1] in (node.lc.data or {}) else (0, 0)
    line = lines[row].rstrip("\n")
    for old in (f'"{edit.old}"', f"'{edit.old}'", edit.old):
        if not line[column:].startswith(old):
            continue
        after = line[column + len(old) :].rstrip()
        for sign in ("; ", " # "):  # "; " continues a comment; without one it changes the content
            lines[row] = f'{line[:column]}"{edit.new}"{after}{sign}{edit.comment}\n'
            if _has_content(new := "".join(lines), content):
                return new
    raise errors.SettingsError(
        file=file,
        key=".".join(map(str, keys)),
        value=edit.old,
        seen="is not alone on one line",
        allowed=f"a plain value; or write {edit.new} by hand",
    )


def _has_content(text: str, content: Any) -> bool:
    try:
        return bool(yaml.safe_load(text) == content)
    except yaml.YAMLError:
        return False


def _place(path: Path, keys: Sequence[str]) -> tuple[Path, list[str | int]]:
    """Return the file that holds a value, and its keys there: machines may have a separate file."""
    if keys[0] != NODES:
        return path, ["config", *keys]
    nodes = yaml.safe_load(path.read_text())["config"][NODES]
    for index, source in enumerate(nodes if isinstance(nodes, list) else [nodes]):
        if isinstance(machines := source.get("machines"), str):
            if keys[1] in yaml.safe_load((path.parent / machines).read_text()):
                return path.parent / machines, list(keys[1:])
        elif keys[1] in (machines or {}):
            return path, ["config", NODES, *([index] if isinstance(nodes, list) else []), "machines", *keys[1:]]
    raise KeyError(keys[1])  # a machine of the settings that is in no file


@dataclass
class Pool:
    """The machines of one source, and the file that lists them: the stack file, or one that the stack file names."""

    defaults: Mapping[str, Any]
    machines: Any
    document: Document
    file: str


class StackFile:
    """A stack file and its files of machines, for the sources that pin host keys. Raises SettingsError without such a source."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        stack = Document(path)
        nodes = (stack.content.get("config") or {}).get(NODES) or {}
        sources = nodes if isinstance(nodes, list) else [nodes]
        self._pools = [self._pool(stack, path.parent, item) for item in sources if item.get("source") in PINNED]
        if not self._pools:
            names = " and ".join(str(item["source"]) for item in sources if item.get("source"))
            raise errors.SettingsError(
                file=name,
                key="nodes.source",
                seen=f"is {names}" if names else "there is no such file, or it has no nodes",
                allowed="ssh or redfish: the other sources make the host keys of their machines",
            )

    def targets(self, nodes: Sequence[str]) -> dict[str, ssh.Target]:
        """Return how to reach each NODE (in the file) or NODE=ADDRESS (a new one). Raises SettingsError for an unknown NODE."""
        return {node.partition("=")[0]: self._target(*node.partition("=")[::2]) for node in nodes}

    def pin(self, node: str, key: Key, address: str) -> str:
        """Set a machine's host key, and the address of a new machine. Returns the name of the written file."""
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
        machines = source.get("machines")
        if isinstance(machines, str):
            document, file = Document(folder / machines), f"{Path(self.name).parent}/{machines}"
            machines = document.content
        elif machines is None:
            machines = source["machines"] = {}
        return Pool(source.get("defaults") or {}, machines, document, file)

    def _of(self, node: str) -> Pool:
        """Return the machines of the source that has a node; of the first source for a new node."""
        return next((pool for pool in self._pools if node in pool.machines), self._pools[0])

    def _target(self, node: str, address: str) -> ssh.Target:
        pool = self._of(node)
        own = pool.machines.get(node)
        if own is None and not address:
            names = [name for each in self._pools for name in each.machines]
            raise errors.SettingsError(
                file=self.name,
                key="nodes.machines",
                value=node,
                seen="no machine has this name",
                allowed=f"one of {', '.join(names)}, or {node}=ADDRESS to add it",
                nearest=errors.nearest(node, names),
            )
        inputs = {**pool.defaults, **(own or {}), **({"address": address} if address else {})}
        if not inputs.get("address"):
            key = f"nodes.machines.{node}.address"
            raise errors.SettingsError(
                file=self.name, key=key, seen="this key is missing", allowed=validation_errors.MISSING["address"]
            )
        return ssh.Target.from_inputs({**inputs, "name": node})
