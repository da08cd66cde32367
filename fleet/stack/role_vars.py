"""What the roles say about themselves: their variables (meta/argument_specs.yml) and the files that they are made of.

Reads roles/, opens no connection. A variable that no role knows, of the wrong type, or text of another form than the role says
(meta/text_forms.yml), is refused at preview. Called by `fleet.program`, once a run; ansible-core is imported only when a value is validated.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet import errors
from fleet.stack import role_digest, settings, text_forms
from fleet.stack.resource_roles import HELPED, HELPER, ROLES, SET_BY_PROGRAM


@dataclass(frozen=True)
class Role:
    """One role: `options` as in its argument spec, their `defaults`, `files` as `rolefiles.listing` gives them, `text_forms` by variable."""

    name: str
    options: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[str, Any]
    files: str
    text_forms: Mapping[str, Any]


@dataclass(frozen=True)
class Roles:
    """All roles of the road, by name, and the one that they include."""

    roles: Mapping[str, Role]
    helper: Role

    @functools.cached_property
    def options(self) -> Mapping[str, Mapping[str, Any]]:
        """Every variable that some role knows, with its spec."""
        return {name: spec for role in self.roles.values() for name, spec in role.options.items()}

    @functools.cached_property
    def text_forms(self) -> Mapping[str, Any]:
        """The form of each variable that holds text (`text_forms.mismatches`)."""
        return {name: form for role in self.roles.values() for name, form in role.text_forms.items()}

    @functools.cached_property
    def defaults(self) -> dict[str, Any]:
        """What a variable is where no stack says it; `{{ name }}` in it is another variable."""
        return {name: value for role in self.roles.values() for name, value in role.defaults.items()}

    def files(self, kind: str) -> dict[str, str]:
        """Return {role: its files} for the roles of one kind of resource."""
        used = [*(self.roles[name] for name in ROLES[kind]), *([self.helper] if kind in HELPED else [])]
        return {role.name: role.files for role in used}

    def part(self, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of `values` that the roles of one kind of resource know."""
        return {
            name: value
            for name, value in values.items()
            if any(name in self.roles[role].options for role in ROLES[kind])
        }

    def validate(self, values: Mapping[str, Any], file: str, key: str) -> Iterator[errors.SettingsError]:
        """Yield what is wrong with role variables that stand at `key` of `file`: unknown names, wrong types."""
        for name, value in values.items():
            if name not in self.options:
                yield errors.SettingsError(
                    file=file,
                    key=f"{key}.{name}",
                    seen="no role knows this variable",
                    allowed="a variable of roles/*/meta/argument_specs.yml",
                    nearest=settings.nearest(name, list(self.options)),
                )
            elif name in SET_BY_PROGRAM:
                yield errors.SettingsError(
                    file=file,
                    key=f"{key}.{name}",
                    seen=f"the program sets this from the resource {SET_BY_PROGRAM[name]}",
                    allowed="leave it out",
                )
            else:
                yield from self._misshaped(name, value, file, key)

    def _misshaped(self, name: str, value: Any, file: str, key: str) -> Iterator[errors.SettingsError]:
        """Yield what is wrong with the value of one known variable: its type, else the form of its text."""
        statements = list(text_forms.statements(value, f"{key}.{name}"))
        for where, text in statements:
            seen = "holds a statement or a comment of Jinja"
            yield errors.SettingsError(file=file, key=where, value=text, seen=seen, allowed="the value itself")
        if statements or (isinstance(value, str) and "{{" in value):
            return  # an expression: Ansible knows its type only when it runs
        wrong_types = _validated(_frozen(name, value, self.options[name])).errors
        for told in wrong_types:
            yield _mistyped(file, f"{key}.{name}", value, told, self.options[name])
        if name in self.text_forms and not wrong_types:
            typed = _validated(_frozen(name, value, self.options[name])).value
            for where, text, form in text_forms.mismatches(typed, self.text_forms[name], f"{key}.{name}"):
                yield errors.SettingsError(
                    file=file, key=where, value=text, seen="has another form", allowed=form.wanted
                )

    def coerced(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values in the types of their specs ("8000" → 8000, as `pulumi config set` writes it)."""
        return {name: _validated(_frozen(name, value, self.options[name])).value for name, value in values.items()}


def load(root: Path) -> Roles:
    """Read the roles of the road from `root` (the repository's roles/)."""
    named = {name: _load(root / name) for names in ROLES.values() for name in names}
    return Roles(named, _load(root / HELPER))


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay later layers over earlier ones. Two dictionaries merge key by key, anything else replaces.

    So a machine may set one of `vllm_flags` and keep the stack's others.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            below = merged.get(name)
            merged[name] = {**below, **value} if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def digest(paths: Iterable[Path]) -> str:
    """Return the first 16 hex of the sha256 over names and contents of some files."""
    both = ((path.name, path.read_bytes()) for path in sorted(paths))
    return hashlib.sha256(
        b"".join(hashlib.sha256(name.encode() + b"\0" + data).digest() for name, data in both)
    ).hexdigest()[:16]


def _load(folder: Path) -> Role:
    spec = _yaml(folder / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    defaults = _yaml(folder / "defaults" / "main.yml") if (folder / "defaults").is_dir() else {}
    forms = _yaml(folder / "meta" / "text_forms.yml") if (folder / "meta" / "text_forms.yml").is_file() else {}
    return Role(folder.name, spec.get("options", {}), defaults, role_digest.listing(folder), forms)


def _yaml(file: Path) -> dict[str, Any]:
    # The C loader is six times faster.
    return yaml.load(file.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


@dataclass(frozen=True)
class _Validated:
    value: Any
    errors: tuple[str, ...]


def _frozen(name: str, value: Any, spec: Mapping[str, Any]) -> str:
    """Return a value and its spec as text, so that the same value on 100 machines is validated once."""
    return json.dumps({"name": name, "value": value, "spec": spec}, default=str)


@functools.lru_cache(maxsize=4096)
def _validated(question: str) -> _Validated:
    """Validate one value of one variable with ansible-core."""
    from ansible.module_utils.common import arg_spec

    asked = json.loads(question)
    name = asked["name"]
    answer = arg_spec.ArgumentSpecValidator({name: asked["spec"]}).validate({name: asked["value"]})
    return _Validated(answer.validated_parameters[name], tuple(answer.error_messages))


def _mistyped(file: str, key: str, value: Any, told: str, spec: Mapping[str, Any]) -> errors.SettingsError:
    """Say in one line what ansible-core says, and what the variable may be."""
    close = settings.nearest(str(value), [str(choice) for choice in spec.get("choices", ())])
    if "upported parameters include" in told:  # an unknown key inside a list or dictionary
        wrong, _, known = told.partition(". Supported parameters include: ")
        close = settings.nearest(wrong.rsplit(".", 1)[-1], known.rstrip(".").split(", "))
        return errors.SettingsError(
            file=file,
            key=f"{key}.{wrong.split('.', 1)[-1]}",
            seen="no such key",
            allowed=known.rstrip("."),
            nearest=close,
        )
    inside = isinstance(value, list | dict) and type(value).__name__ == spec.get("type")
    seen = told if inside else f"not {_a(spec)}"  # what is wrong inside a list or mapping, ansible-core says best
    return errors.SettingsError(file=file, key=key, value=value, seen=seen, allowed=_shape(spec), nearest=close)


def _a(spec: Mapping[str, Any]) -> str:
    if spec.get("choices"):
        return "one of the choices"
    kind = str(spec.get("type", "str"))
    name = {"str": "text", "int": "whole number", "bool": "yes or no", "dict": "mapping", "list": "list"}.get(
        kind, kind
    )
    return f"a {name}" if kind != "bool" else name


def _shape(spec: Mapping[str, Any]) -> str:
    """Return what a variable may be: its choices, or its type and the first line of its description."""
    if spec.get("choices"):
        return ", ".join(map(str, spec["choices"]))
    kind = f"list of {spec['elements']}" if spec.get("elements") else str(spec.get("type", "str"))
    about = spec.get("description", "")
    line = about[0] if isinstance(about, list) and about else str(about)
    return f"{kind}: {line.strip().splitlines()[0]}" if line.strip() else kind
