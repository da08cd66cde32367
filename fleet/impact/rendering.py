"""Evaluates a role's expressions and templates on the controller, with the filters of Ansible, from variables alone.

Pure but for the roles' own files: no connection, no lookup, and no value of the stack file is an expression here, so that a pull request's
cannot run anything. What only the host knows is an Unknown. Called by role_files.py.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import yaml
from ansible.errors import AnsibleError
from ansible.plugins.filter import core, mathstuff, urlsplit
from ansible.plugins.test import core as tests
from jinja2 import nativetypes, runtime, sandbox, utils

from fleet.impact.value_diff import SECRET

SCOPE = "__scope__"
WRITING = ("to_json", "to_nice_json", "to_yaml", "to_nice_yaml")
OF_HOST, LATER = "(of the host)", "(known later)"


class Unknown(jinja2.ChainableUndefined):
    """A value that only the host knows: empty as a list, false as a condition, itself as a result of anything else."""

    _words = OF_HOST

    def _same(self, *_: Any, **__: Any) -> "Unknown":
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _same  # type: ignore[assignment]
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __pos__ = __call__ = _same  # type: ignore[assignment]

    def __str__(self) -> str:
        return self._words

    def __int__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(OF_HOST)  # the filters int and float then return their default

    def __float__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(OF_HOST)

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __reversed__(self) -> Iterator[Any]:
        return iter((self,))

    def _less(self, _: Any) -> bool:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = _less  # type: ignore[assignment]


class Later(Unknown):
    """A value that another resource of the same run determines."""

    _words = LATER


class Scope:
    """The variables of one role: the stack's `data`, and the role's own `expressions`, evaluated when they are used; the folder of its templates.

    `complete` is whether every variable that was used is known.
    """

    def __init__(self, data: Mapping[str, Any], expressions: Mapping[str, Any], templates: Path) -> None:
        self._values, self._expressions, self._templates = dict(data), expressions, templates
        self._open: set[str] = set()
        self._partial = {name for name, value in data.items() if _has_unknown(value)}  # and what depends on them
        self.complete = True

    def value(self, name: str) -> Any:
        """Return the value of a variable, Unknown without one."""
        if name in self._values:
            self.complete = self.complete and name not in self._partial
            return self._values[name]
        if name not in self._expressions or name in self._open:
            self.complete = False
            return Unknown(name=name)
        self._open.add(name)
        before, self.complete = self.complete, True
        value = self.evaluated(self._expressions[name])
        self._partial |= set() if self.complete else {name}
        self.complete = self.complete and before
        self._open.discard(name)
        self._values[name] = value
        return value

    def evaluated(self, value: Any, **local: Any) -> Any:
        """Return a value of a role's file with its expressions evaluated; an error in one of them is an Unknown."""
        if isinstance(value, Mapping):
            return {key: self.evaluated(entry, **local) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.evaluated(entry, **local) for entry in value]
        if not isinstance(value, str) or "{" not in value:
            return value
        return self._rendered(lambda: _expression(value), local)

    def text(self, name: str, **local: Any) -> str | None:
        """Return the text of a template, None where it cannot be rendered without the host."""
        text = self._rendered(lambda: _templates(self._templates).get_template(name), local)
        if isinstance(text, Unknown):
            return None
        # Jinja takes the last newline away, and Ansible adds those that the template ends with and its text does not.
        return str(text) + "\n" * (_newlines((self._templates / name).read_text()) - _newlines(str(text)))

    def _rendered(self, compiled: Callable[[], jinja2.Template], local: Mapping[str, Any]) -> Any:
        try:
            template = compiled()
            context = template.new_context({SCOPE: self, **local})
            return template.environment.concat(template.root_render_func(context))
        except (
            jinja2.TemplateError,
            AnsibleError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            yaml.YAMLError,
        ):
            self.complete = False  # an Unknown in a place that needs a value
            return Unknown()


def _has_unknown(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_unknown, value.values()))
    return any(map(_has_unknown, value)) if isinstance(value, list) else isinstance(value, Unknown)


class _Context(runtime.Context):
    """Finds a name among the template's own, then in the scope."""

    def resolve_or_missing(self, key: str) -> Any:
        value = super().resolve_or_missing(key)
        if value is utils.missing and key != SCOPE:
            return self.parent[SCOPE].value(key)
        return value


def _lookup(name: Any, *_: Any, **__: Any) -> Any:
    """Look nothing up: the environment has secrets, and everything else is the host's or the network's."""
    return SECRET if str(name).rpartition(".")[2] == "env" else Unknown()


def _known(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter or a test that leaves an Unknown as it is."""

    @functools.wraps(function)
    def call(value: Any, *arguments: Any, **options: Any) -> Any:
        return value if isinstance(value, Unknown) else function(value, *arguments, **options)

    return call


def _worded(value: Any) -> Any:
    """Return a value with words in the place of each Unknown: what it is a part of is then known but for that."""
    if isinstance(value, Mapping):
        return {key: _worded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_worded(entry) for entry in value]
    return str(value) if isinstance(value, Unknown) else value


def _writing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that writes a value as text, and has words for the parts that are not known."""
    return lambda value, *arguments, **options: function(_worded(value), *arguments, **options)


def _native(values: Iterable[Any]) -> Any:
    """Return the value of an expression that stands alone, else the text of all parts, as Ansible does."""
    parts = [*values]
    return parts[0] if len(parts) == 1 else "".join(map(str, parts))


class _Expressions(sandbox.SandboxedEnvironment, nativetypes.NativeEnvironment):
    """Evaluates to values, not to text."""

    concat = staticmethod(_native)


def _environment(kind: type[jinja2.Environment]) -> jinja2.Environment:
    made = kind(undefined=Unknown, trim_blocks=True, extensions=["jinja2.ext.do"])
    made.context_class = _Context
    modules = (core.FilterModule(), mathstuff.FilterModule(), urlsplit.FilterModule())
    filters = {name: function for module in modules for name, function in module.filters().items()}
    made.filters |= {name: _known(function) for name, function in filters.items() if name not in made.filters}
    made.filters |= {name: _known(_writing(filters[name])) for name in WRITING}
    made.tests |= {
        name: _known(function) for name, function in tests.TestModule().tests().items() if name not in made.tests
    }
    made.globals |= dict.fromkeys(("lookup", "query", "q"), _lookup)
    return made


EXPRESSIONS = _environment(_Expressions)


@functools.cache
def _expression(text: str) -> jinja2.Template:
    return EXPRESSIONS.from_string(text)


@functools.cache
def _templates(folder: Path) -> jinja2.Environment:
    """Return the environment of a role's templates, which may import each other."""
    made = _environment(sandbox.SandboxedEnvironment)
    made.loader = jinja2.FileSystemLoader(folder)
    return made


def _newlines(text: str) -> int:
    """Return how many newlines a text ends with."""
    return len(text) - len(text.rstrip("\n"))
