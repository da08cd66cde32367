"""Messages about mistakes in a user's file: turns pydantic's errors into SettingsError, with the allowed form and the nearest name.

Called by `settings` and `probe_cases`; other modules that report such mistakes use the texts.
"""

import re
from collections.abc import Sequence
from typing import Any, get_args

import pydantic

from fleet import errors
from fleet.schema import FILE, FOLDER, HOST_KEY, NAME, REGISTRY, SERVER, Form
from fleet.sources import cloud_form
from fleet.sources import forms as sources
from fleet.sources.pool import Member
from fleet.stack import cluster_form, gateway_form, kubernetes_form

# pydantic's type of a mistake → the `seen` line. For any other type pydantic's own message is the `wanted` line.
SEEN = {
    "missing": "this key is missing",
    "extra_forbidden": "no such key",
    "union_tag_invalid": "no such node source",
    "union_tag_invalid weights": "no such home of weights",
    "union_tag_not_found": "this key is missing",
    "string_pattern_mismatch": "has the wrong form",
    "too_short": "is empty",
    "string_too_short": "is empty",
    "no_date": "is not a date",
    "no_range": "is not a range of addresses",
    "no_host": "is no name of a host",
    "no_network": "is no address in a network",
    "open_range": "includes all addresses, or nearly all",
}
FORMS = {
    SERVER: "a URL, e.g. https://mirror.example/rocm",
    REGISTRY: "HOST, HOST:PORT or HOST/PATH of a registry",
    FOLDER: "a folder of this project, relative to its root, e.g. probes/own",
    FILE: "the name of a file in the same folder: letters, digits, '.', '_' and '-'",
    NAME: "lower-case letters, digits and '-', at most 63",
    HOST_KEY: "type and key of the machine's public host key; `fleet enrol -s STACK NODE` shows and writes it; compare it with the machine's console",
    cloud_form.PUBLIC_KEY: "a public SSH key, as in ~/.ssh/id_ed25519.pub",
    cloud_form.LOGIN: "a user's name on the machine",
    cloud_form.WORD: "the cloud's own name of it",
    **sources.FORMS,
    **gateway_form.FORMS,
    **kubernetes_form.FORMS,
}
MISSING = {
    "nodes": "where the machines come from: `source` and `machines`",
    "host_key": FORMS[HOST_KEY],
    "address": "the name or IP address that answers SSH",
    "bmc": "https://HOST of the BMC",
    "release": "why the machine may be replaced or deleted",
    "ssh_from": "the address ranges from which you administer, e.g. [192.0.2.0/24]: no other address reaches the machines",
    "keys": "the public keys that may log in",
    "reason": "why this policy does not stop the stack",
    "expires": "the last day on which the waiver holds, e.g. 2026-12-31",
    **gateway_form.MISSING,  # some by the whole key
    **kubernetes_form.MISSING,
    **cluster_form.MISSING,
    "nodes.defaults.installer.sha256": "the digest of the installer's image, as sha256sum prints it",
}


def from_pydantic(
    error: pydantic.ValidationError, file: str, whole: type[Form], lone: bool, secrets: Sequence[str]
) -> list[errors.SettingsError]:
    """Return every mistake that pydantic found in a file of the form `whole`, which may also have the keys `secrets`.

    `lone`: the file has one node source.
    """
    return [_mistake(entry, file, whole, lone, secrets) for entry in error.errors(include_url=False)]


def _mistake(error: Any, file: str, whole: type[Form], lone: bool, secrets: Sequence[str]) -> errors.SettingsError:
    """Turn one pydantic error into a SettingsError with key, value, allowed form and nearest name."""
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    path = _keys(error["loc"], lone)
    name = path[-1] if path else ""
    names: list[str] = []
    if kind.startswith("union_tag"):
        path.append(context["discriminator"].strip("'"))
        value = context.get("tag", "")
        names = list(sources.NAMES if path[-1] == "source" else kubernetes_form.HOMES)
    elif kind == "extra_forbidden" and (form := _form_at(error["loc"][:-1], whole)):
        inherited = Member.model_fields if issubclass(form, Member) else {}
        own_first = sorted(form.model_fields, key=inherited.__contains__)
        names = [*own_first, *(secrets if form is whole else ())]
    elif kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
    words = error["msg"].removeprefix("Input should be ").partition(", unable")[0]
    if kind == "missing":
        words = MISSING.get(".".join(path)) or MISSING.get(name, "")
    elif kind == "string_pattern_mismatch":
        words = FORMS.get(context["pattern"], context["pattern"])
    elif kind == "too_short":
        words = "at least one"
    elif kind in ("string_too_short", "no_date"):
        words = MISSING.get(name) or MISSING.get(path[0], "some text")
    # A private key given in place of a public one, a client's key in place of its digest, a kubeconfig in place of its path: not for a log.
    hidden = (cloud_form.PUBLIC_KEY, gateway_form.KEY_SHA256, kubernetes_form.KUBECONFIG)
    hides_value = kind in ("missing", "extra_forbidden") or context.get("pattern") in hidden
    return errors.SettingsError(
        file=file,
        key=".".join(path),
        value="" if hides_value else value,
        seen=SEEN.get(f"{kind} {name}") or SEEN.get(kind, "is not allowed"),
        allowed=", ".join(names) or words,
        nearest=errors.nearest(name if kind == "extra_forbidden" else str(value), names),
    )


def _keys(loc: Sequence[str | int], lone: bool) -> list[str]:
    """Return a pydantic location as the keys of the file, without the name of a form among several, which pydantic inserts after its place."""
    keys: list[str] = []
    for place, part in enumerate(loc):
        inserted = place == 2 and (loc[0] == "nodes" or loc[:2] == ("kubernetes", "weights"))
        if part == "[key]" or inserted or (loc[0] == "nodes" and place == 1 and lone):
            continue
        if isinstance(part, int):
            keys[-1] += f"[{part}]"
        else:
            keys.append(part)
    return keys


def _form_at(loc: Sequence[str | int], whole: type[Form]) -> type[Form] | None:
    """Return the form at a pydantic location, for its keys; None when there is no form."""
    forms = [whole]
    for part in loc:
        fields = [form.model_fields[part].annotation for form in forms if part in form.model_fields]
        if fields:
            forms = [form for annotation in fields for form in _forms(annotation)]
        else:  # a source's name, a machine's name, a place in a list
            forms = [form for form in forms if _tag(form) == part] or forms
    return forms[0] if len(forms) == 1 else None


def _forms(annotation: Any) -> list[type[Form]]:
    """Return the forms in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Form):
        return [annotation]
    return [form for inner in get_args(annotation) for form in _forms(inner)]


def _tag(form: type[Form]) -> str:
    """Return the name of the source, or the home, with this form, or ""."""
    tag = form.model_fields.get("source") or form.model_fields.get("home")
    return str(next(iter(get_args(tag.annotation)), "")) if tag else ""
