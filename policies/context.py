"""A rule's input: one resource and its stack, with readers for values that may not be known yet.

`pack.py` prepares the values: plain dictionaries and lists, secrets in clear, UNKNOWN. Needs roles/*/defaults for variables that
a stack leaves out. Used by every rule.
"""

import functools
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from policies.stack import Stack

ROLES = Path(__file__).resolve().parents[1] / "roles"
# Placeholder at preview for a value that is not known yet.
UNKNOWN: Any = object()

Props = Mapping[str, Any]


@dataclass(frozen=True)
class Context:
    """One resource: `kind` (BareMetal, HostKey, Authority, Node, Host, Image, Weights, Serving, Gateway, Member, Rollout, Stack, or an
    object of policies.pods), `name` (of its node), `inputs`.

    `protect` is Pulumi's resource option. `others` holds the inputs of the other resources that the rule reads, by kind and name.
    For a rule with `at_end`, `inputs` and `others` hold outputs.
    """

    kind: str
    name: str
    inputs: Props
    protect: bool = False
    stack: Stack = field(default_factory=Stack)
    others: Mapping[tuple[str, str], Props] = field(default_factory=dict)

    def var(self, name: str) -> Any:
        """Return a role variable as the role will see it: the default where the stack sets none, None when not known yet."""
        value = value_at(self.inputs, "vars", name, absent=_ABSENT)
        return _default(name) if value is _ABSENT else value

    def default(self, name: str) -> Any:
        """Return the role's default for a variable."""
        return _default(name)

    def flags(self, name: str) -> list[Any]:
        """Return every value of a vLLM flag, in either spelling; empty when it is not set or not known yet."""
        return [value for flag, value in self.all_flags() if flag == name]

    def all_flags(self) -> Iterator[tuple[str, Any]]:
        """Yield (name with dashes, value) for each flag of `vllm serve`, from vllm_flags and from vllm_entrypoint."""
        flags = self.var("vllm_flags")
        for key in flags if isinstance(flags, Mapping) else ():
            value = value_at(flags, key)
            flag, equals, rest = key.partition("=")
            if value is not None:
                yield _dashes(flag), rest if equals else value
        arguments = self.var("vllm_entrypoint")
        words = [word for word in arguments if isinstance(word, str)] if isinstance(arguments, list) else []
        for word, after in zip(words, [*words[1:], "--"], strict=False):
            if word.startswith("--"):
                flag, equals, rest = word.partition("=")
                yield _dashes(flag), rest if equals else (True if after.startswith("-") else after)

    def inputs_of(self, kind: str) -> Props | None:
        """Return the inputs of this node's resource of another kind, or None.

        One Image may serve all nodes.
        """
        inputs = self.others.get((kind, self.name))
        if inputs is None and kind == "Image":
            images = [image for (other, _), image in list(self.others.items()) if other == "Image"]
            inputs = images[0] if len(images) == 1 else None
        return inputs


def value_at(props: Props, *path: str, absent: Any = None) -> Any:
    """Return the value at `path`: None when it is not known yet, `absent` when it is missing or null."""
    value: Any = props
    for key in path:
        if not isinstance(value, Mapping) or value.get(key) is None:
            return absent
        value = value[key]
        if value is UNKNOWN:
            return None
    return value


def has_unknown(value: Any) -> bool:
    """Whether the value, or anything in it, is not known yet."""
    if isinstance(value, Mapping | list):
        return any(has_unknown(item) for item in (value.values() if isinstance(value, Mapping) else value))
    return value is UNKNOWN


def on(value: Any) -> bool:
    """Whether a switch is on. A value that is neither on nor off counts as on, so that a rule refuses what it cannot read."""
    return value is not None and str(value).strip().lower() not in ("", "0", "false", "no", "off")


def folder(path: str) -> str:
    """Return an absolute path without `..`, doubled or trailing slashes."""
    return posixpath.normpath("/" + path.lstrip("/"))


def inside(path: str, of: str) -> bool:
    """Whether an absolute path equals `of` or is below it."""
    return path == of or path.startswith(of.rstrip("/") + "/")


_ABSENT = object()


def _dashes(flag: str) -> str:
    return flag.lstrip("-").replace("_", "-")


def _default(name: str) -> Any:
    return _defaults(name.partition("_")[0]).get(name)


@functools.cache  # the same file for each of a hundred machines
def _defaults(role: str) -> Mapping[str, Any]:
    file = ROLES / role / "defaults" / "main.yml"
    return yaml.safe_load(file.read_text()) if file.is_file() else {}
