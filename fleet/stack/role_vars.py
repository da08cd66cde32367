"""The roles' variables (meta/argument_specs.yml, defaults/main.yml, meta/text_forms.yml), and the validation of a stack's values.

Reads roles/, opens no connection. Called by fleet.program once a run, by fleet.cli and `validate`. Imports ansible-core only when a value
is validated, since that takes long.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleet import errors
from fleet.stack import role_digest, text_forms
from fleet.stack.resource_roles import HELPED, HELPER, ROLES, SET_BY_PROGRAM, of_machine, on_machine

# ansible-core's types, in words.
TYPES = {"str": "a text", "int": "a whole number", "bool": "yes or no", "dict": "a mapping"}


@dataclass(frozen=True)
class Role:
    """One role: `options` as in its argument spec, their `defaults`, `files` as in role_digest.listing, `text_forms` by variable."""

    name: str
    options: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[str, Any]
    files: str
    text_forms: Mapping[str, Any]


@dataclass(frozen=True)
class Roles:
    """All roles by name, and the helper role that they include."""

    roles: Mapping[str, Role]
    helper: Role
    folder: Path = Path("roles")

    @functools.cached_property
    def options(self) -> Mapping[str, Mapping[str, Any]]:
        """Every variable of any role, with its spec."""
        return {name: spec for role in self.roles.values() for name, spec in role.options.items()}

    @functools.cached_property
    def text_forms(self) -> Mapping[str, Any]:
        """The form of each variable that holds text (`text_forms.mismatches`)."""
        return {name: form for role in self.roles.values() for name, form in role.text_forms.items()}

    @functools.cached_property
    def defaults(self) -> dict[str, Any]:
        """The default of each variable; `{{ name }}` in it is another variable."""
        return {name: value for role in self.roles.values() for name, value in role.defaults.items()}

    def files(self, kind: str, gpus: int = 1, member: bool = False) -> dict[str, str]:
        """Return {role: its files} for the roles of one kind of resource on a machine with so many GPUs (`member`: of the own cluster)."""
        used = [
            *(self.roles[name] for name in of_machine(kind, gpus, member)),
            *([self.helper] if kind in HELPED else []),
        ]
        return {role.name: role.files for role in used}

    def variables_of(self, kind: str, values: Mapping[str, Any], gpus: int = 1, member: bool = False) -> dict[str, Any]:
        """Return those of `values` that the roles of one kind of resource know, on a machine with so many GPUs."""
        return self._known(of_machine(kind, gpus, member), values)

    @functools.cached_property
    def owners(self) -> dict[str, str]:
        """The role of each variable."""
        return {name: role.name for role in self.roles.values() for name in role.options}

    def variables_on(self, values: Mapping[str, Any], gpus: int, member: bool = False) -> dict[str, Any]:
        """Return those of `values` that the roles on a machine with so many GPUs know (`member`: of the own cluster)."""
        return self._known(on_machine(gpus, member), values)

    def _known(self, names: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
        known = {option for name in names for option in self.roles[name].options}
        return {name: value for name, value in values.items() if name in known}

    def validate(self, values: Mapping[str, Any], file: str, key: str) -> Iterator[errors.SettingsError]:
        """Yield the mistakes in the role variables at `key` of `file`: unknown names, wrong types, wrong forms of text."""
        for name, value in values.items():
            if name not in self.options:
                yield errors.SettingsError(
                    file=file,
                    key=f"{key}.{name}",
                    seen="no role knows this variable",
                    allowed="a variable of roles/*/meta/argument_specs.yml",
                    nearest=errors.nearest(name, list(self.options)),
                )
            elif name in SET_BY_PROGRAM:
                yield errors.SettingsError(
                    file=file,
                    key=f"{key}.{name}",
                    seen=f"the program sets this from {SET_BY_PROGRAM[name]}",
                    allowed="leave it out",
                )
            else:
                yield from self._value_mistakes(name, value, file, key)

    def _value_mistakes(self, name: str, value: Any, file: str, key: str) -> Iterator[errors.SettingsError]:
        """Yield the mistakes in the value of one variable: its type, else the form of its text."""
        statements = list(text_forms.statements(value, f"{key}.{name}"))
        for text_key, text in statements:
            seen = "holds a statement or a comment of Jinja"
            yield errors.SettingsError(file=file, key=text_key, value=text, seen=seen, allowed="the value itself")
        if statements or (isinstance(value, str) and "{{" in value):
            return  # an expression: Ansible knows its type only during the run
        validation = _validate(_cache_key(name, value, self.options[name]))
        for message in validation.errors:
            yield _type_mistake(file, f"{key}.{name}", value, message, self.options[name])
        if name in self.text_forms and not validation.errors:
            for text_key, text, form in text_forms.mismatches(validation.value, self.text_forms[name], f"{key}.{name}"):
                yield errors.SettingsError(
                    file=file, key=text_key, value=text, seen="has the wrong form", allowed=form.wanted
                )

    def coerce(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with the types of their specs: "8000", as `pulumi config set` writes it, becomes 8000."""
        return {name: _validate(_cache_key(name, value, self.options[name])).value for name, value in values.items()}


def load(root: Path) -> Roles:
    """Read all roles from `root` (the repository's roles/)."""
    roles = {name: _load(root / name) for names in ROLES.values() for name in names}
    return Roles(roles, _load(root / HELPER), root)


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers merged: a later one replaces values of earlier ones, but two dictionaries merge key by key.

    So a machine can set one entry of `vllm_flags` and keep the stack's others.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            earlier = merged.get(name)
            merged[name] = {**earlier, **value} if isinstance(earlier, dict) and isinstance(value, Mapping) else value
    return merged


def _load(folder: Path) -> Role:
    spec = _yaml(folder / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    defaults = _yaml(folder / "defaults" / "main.yml") if (folder / "defaults").is_dir() else {}
    forms = _yaml(folder / "meta" / "text_forms.yml") if (folder / "meta" / "text_forms.yml").is_file() else {}
    return Role(folder.name, spec.get("options", {}), defaults, role_digest.listing(folder), forms)


def _yaml(file: Path) -> dict[str, Any]:
    # The C loader is six times faster.
    return yaml.load(file.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


@dataclass(frozen=True)
class _Validation:
    value: Any
    errors: tuple[str, ...]


def _cache_key(name: str, value: Any, spec: Mapping[str, Any]) -> str:
    """Return a variable with value and spec as text, so that the same value on 100 machines is validated once."""
    return json.dumps({"name": name, "value": value, "spec": spec}, default=str)


@functools.lru_cache(maxsize=4096)
def _validate(cache_key: str) -> _Validation:
    """Validate one value of one variable with ansible-core."""
    from ansible.module_utils.common import arg_spec

    variable = json.loads(cache_key)
    name = variable["name"]
    result = arg_spec.ArgumentSpecValidator({name: variable["spec"]}).validate({name: variable["value"]})
    return _Validation(result.validated_parameters[name], tuple(result.error_messages))


def _type_mistake(file: str, key: str, value: Any, message: str, spec: Mapping[str, Any]) -> errors.SettingsError:
    """Return the mistake for a message of ansible-core, with what the variable may be."""
    close = errors.nearest(str(value), [str(choice) for choice in spec.get("choices", ())])
    if "upported parameters include" in message:  # an unknown key inside a list or dictionary
        path, _, supported = message.partition(". Supported parameters include: ")
        close = errors.nearest(path.rsplit(".", 1)[-1], supported.rstrip(".").split(", "))
        key, allowed = f"{key}.{path.split('.', 1)[-1]}", supported.rstrip(".")
        return errors.SettingsError(file=file, key=key, seen="no such key", allowed=allowed, nearest=close)
    # ansible-core describes best a mistake inside a list or mapping.
    inside = isinstance(value, list | dict) and type(value).__name__ == spec.get("type")
    kind = str(spec.get("type", "str"))
    wanted = "one of the choices" if spec.get("choices") else TYPES.get(kind, f"a {kind}")
    seen = message if inside else f"not {wanted}"
    return errors.SettingsError(file=file, key=key, value=value, seen=seen, allowed=_allowed(spec), nearest=close)


def _allowed(spec: Mapping[str, Any]) -> str:
    """Return the variable's choices, or its type and the first line of its description."""
    if spec.get("choices"):
        return ", ".join(map(str, spec["choices"]))
    kind = f"list of {spec['elements']}" if spec.get("elements") else str(spec.get("type", "str"))
    about = spec.get("description", "")
    line = about[0] if isinstance(about, list) and about else str(about)
    return f"{kind}: {line.strip().splitlines()[0]}" if line.strip() else kind
