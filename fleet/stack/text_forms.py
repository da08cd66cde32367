"""The allowed forms of text in role variables, by name. A role's meta/text_forms.yml names the form of each variable.

The roles write these values into systemd units, apt files and command lines on the node, where text of another form could add an option such
as `--privileged`. Needs nothing. Called by `role_vars`, which validates a stack's variables, and by tests that check every role.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Jinja statements and comments: no role variable needs one, and their result cannot be validated before Ansible runs.
STATEMENT = re.compile(r"\{%|\{#")
EXPRESSION = re.compile(r"\{\{")


@dataclass(frozen=True)
class TextForm:
    """A form: the `pattern` of the whole text, and its description for the user."""

    pattern: str
    wanted: str


WORD = r"[A-Za-z0-9_.:/@+=,%~\[\]-]+"
FORMS: Mapping[str, TextForm] = {
    "size": TextForm(r"[1-9][0-9]*[bkmg]?", "a size as Docker reads it, e.g. 32g"),
    "path": TextForm(r"(?!.*/\.\.?(/|$))(/[A-Za-z0-9_.@+-]+)+", "an absolute path of letters, digits and ._@+-"),
    "file": TextForm(
        r"(?!(.*/)?\.\.?(/|$))/?[A-Za-z0-9_.@+-]+(/[A-Za-z0-9_.@+-]+)*", "a path of letters, digits and ._@+-"
    ),
    "name": TextForm(r"[a-z0-9][a-z0-9_.-]{0,62}", "lower-case letters, digits, '.', '_' and '-', at most 63"),
    "variable": TextForm(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable"),
    "identifier": TextForm(r"[A-Za-z_][A-Za-z0-9_.]*", "a dotted name of Python"),
    "flag": TextForm(r"(--)?[A-Za-z0-9][A-Za-z0-9_.=-]*", "the name of a flag of `vllm serve`"),
    "word": TextForm(WORD, "one word, without blanks, quotes or signs of the shell"),
    "words": TextForm(rf"{WORD}( {WORD})*", "words with one blank between them, without quotes or signs of the shell"),
    "line": TextForm(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*", "one line of printable text"),
    "text": TextForm(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]*", "printable text"),
    "url": TextForm(r"https?://[A-Za-z0-9_.:\[\]-]+(/[A-Za-z0-9_.:/@+=,%~-]*)?", "a URL with http:// or https://"),
    "git": TextForm(
        r"(https?|ssh|git)://[A-Za-z0-9_.:@\[\]-]+(/[A-Za-z0-9_./+~-]*)?", "a git URL, e.g. https://git.example/x.git"
    ),
    "reference": TextForm(
        r"[a-z0-9][A-Za-z0-9.:-]*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
        "an image as REPOSITORY@sha256:DIGEST",
    ),
    "fingerprint": TextForm(r"[0-9A-F]{40}|[0-9A-F]{64}", "40 hexadecimal digits in capitals"),
    "ids": TextForm(r"[0-9]+:[0-9]+", "UID:GID in digits"),
    "package": TextForm(
        r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9]+)?(=[A-Za-z0-9.+:~*-]+)?", "a Debian package, or NAME=VERSION"
    ),
    "release": TextForm(r"[0-9]+\.[0-9]+\.[0-9]+", "a version as MAJOR.MINOR.PATCH"),
    "sha256": TextForm(r"[0-9a-f]{64}", "64 hexadecimal digits"),
    "digest": TextForm(r"sha256:[0-9a-f]{64}", "sha256: and 64 hexadecimal digits"),
    "serial": TextForm(r"[A-Za-z0-9_.:-]+", "a disk's serial, as `lsblk -dno SERIAL` prints it"),
    "address": TextForm(r"[0-9a-fA-F.:]+", "an IP address of the machine"),
    "domain": TextForm(r"[A-Za-z0-9_@%*:.-]+", "a user, @group, or * for all"),
    "version": TextForm(r"[A-Za-z0-9.+:~*-]+", "a version, with `*` as a wildcard"),
    "repository": TextForm(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+", "ORGANISATION/NAME"),
    "setting": TextForm(r"[A-Za-z0-9][A-Za-z0-9_./*@-]*", "the name of a setting"),
    "glob": TextForm(r"[A-Za-z0-9_.*?\[\]/-]+", "a pattern of file names"),
}


def mismatches(value: Any, form: Any, key: str, empty: bool = True) -> Iterator[tuple[str, str, TextForm]]:
    """Yield (key, text, form) of each text in `value` that does not match its form. `empty`: "" is allowed and counts as not set.

    `form` is the name of a form, for a text or each text in a list; {keys, values} for a mapping; {each: {KEY: form}} for a list of mappings.
    Skips a text with an Ansible expression, whose value is known only during the run: the policy `values-plain` reports it.
    """
    if isinstance(form, Mapping) and "each" in form:
        for place, item in enumerate(value if isinstance(value, list) else ()):
            for name, inner in form["each"].items():
                if isinstance(item, Mapping) and name in item:
                    yield from mismatches(item[name], inner, f"{key}[{place}].{name}", False)
    elif isinstance(form, Mapping):
        for name, item in value.items() if isinstance(value, Mapping) else ():
            if "keys" in form:
                yield from mismatches(str(name), form["keys"], f"{key}.{name}", False)
            if "values" in form:
                yield from mismatches(item, form["values"], f"{key}.{name}", True)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from mismatches(item, form, f"{key}[{place}]", False)
    elif isinstance(value, str) and (value or not empty) and "{{" not in value:
        text_form = FORMS[form]
        yield from [] if re.fullmatch(text_form.pattern, value) else [(key, value, text_form)]


def statements(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of each text anywhere in `value` with a Jinja statement or comment."""
    return _texts(value, key, STATEMENT)


def expressions(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of each text anywhere in `value` with a Jinja expression."""
    return _texts(value, key, EXPRESSION)


def _texts(value: Any, key: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(str(name), key, pattern)
            yield from _texts(item, f"{key}.{name}", pattern)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _texts(item, f"{key}[{place}]", pattern)
    elif isinstance(value, str) and pattern.search(value):
        yield key, value
