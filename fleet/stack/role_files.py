"""Render files of a role without Ansible, from the role's own templates and variables: what a node and a pod share has one home.

Reads roles/ROLE/vars and templates. Values are data: an expression in one is not evaluated (`kubernetes_vars` refuses it). Knows of
Ansible's filters only those in FILTERS; a template that uses another one raises jinja2.TemplateError. Called by fleet.program.kubernetes.
"""

import functools
import json
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nativetypes
import jinja2.runtime
import yaml

MANAGED = "Managed"  # what `ansible_managed` becomes


def combine(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings; the last one that has a key wins."""
    return {name: value for layer in layers for name, value in layer.items()}


def to_nice_yaml(value: Any, indent: int = 4, sort_keys: bool = True) -> str:
    """Return YAML in block style."""
    return yaml.dump(value, indent=indent, sort_keys=sort_keys, allow_unicode=True, default_flow_style=False)


FILTERS = {
    "combine": combine,
    "to_json": json.dumps,
    "to_nice_yaml": to_nice_yaml,
    "dirname": lambda path: str(Path(path).parent),
}


class RoleFiles:
    """One role's files for these `values` of its variables, which include the defaults."""

    def __init__(self, folder: Path, values: Mapping[str, Any]) -> None:
        self._folder, self._values = folder, values
        self._sources: Mapping[str, Any] = _internal(folder)
        self._native = _environment(_Native, self)
        self._text = _environment(jinja2.Environment, self)

    def text(self, name: str) -> str:
        """Return the file that the template `name` renders."""
        source = (self._folder / "templates" / name).read_text()
        return str(_template(self._text, source).render(ansible_managed=MANAGED))

    def value(self, name: str) -> Any:
        """Return the value of a variable, public or internal. Raises KeyError for one that the role does not have."""
        return self._values[name] if name in self._values else self._evaluated(self._sources[name])

    def knows(self, name: str) -> bool:
        """Whether the role has this variable."""
        return name in self._values or name in self._sources

    def _evaluated(self, source: Any) -> Any:
        """Return an internal variable with the expressions in it evaluated."""
        if isinstance(source, Mapping):
            return {name: self._evaluated(value) for name, value in source.items()}
        if isinstance(source, list):
            return [self._evaluated(value) for value in source]
        return _template(self._native, source).render() if isinstance(source, str) and "{" in source else source


def _pieces(values: Iterable[Any]) -> Any:
    """Return the only value that a template yields, whatever its type; more of them as text, like Ansible."""
    pieces = [value for value in values if value != ""]
    return pieces[0] if len(pieces) == 1 else "".join(map(str, pieces))


class _Native(jinja2.nativetypes.NativeEnvironment):
    concat = staticmethod(_pieces)  # Jinja's own would make a number of the text "1"


def _environment(kind: type[jinja2.Environment], role: RoleFiles | None = None) -> jinja2.Environment:
    """Return an environment with Ansible's settings, in which a name is a variable of the role, if there is one."""

    class Context(jinja2.runtime.Context):
        def resolve_or_missing(self, key: str) -> Any:
            return role.value(key) if role and role.knows(key) else super().resolve_or_missing(key)

    environment = kind(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False)
    environment.context_class = Context
    environment.filters.update(FILTERS)
    return environment


def _template(environment: jinja2.Environment, source: str) -> jinja2.Template:
    """Return a template of an environment; its code is compiled once for all models."""
    code = _code(isinstance(environment, _Native), source)
    return environment.template_class.from_code(environment, code, environment.make_globals(None))


@functools.cache
def _code(native: bool, source: str) -> types.CodeType:
    return _environment(_Native if native else jinja2.Environment).compile(source)


@functools.cache  # the same file for each model
def _internal(folder: Path) -> Mapping[str, Any]:
    """Return the role's internal variables, not evaluated."""
    loaded: Mapping[str, Any] = yaml.safe_load((folder / "vars" / "main.yml").read_text())
    return loaded
