"""The form of every output: what a node, a server or a BMC may put into the state. One table, and the error where one has another form.

Owns which output has which form; the kinds of forms are fleet.validators's. Pure. Called by playbook.py and node.py, for what comes from the other
side, before anything else is done with it. A new output needs a row here: tests/support/right_outputs.py.
"""

from collections.abc import Mapping
from typing import Any

from fleet import address, errors, ssh, validators
from fleet.managed import managed_set
from fleet.provider.properties import Props
from fleet.validators import Both, Each, Either, Flag, Form, Mistake, Number, Record, Table, Text, Whole

VERSION = Text("a version, of letters, digits and . : + ~ _ -", r"[A-Za-z0-9.:+~_-]*", most=120)
VERSIONS = Text("versions, of letters, digits, spaces and . : + ~ _ -", r"[A-Za-z0-9 .:+~_-]*", most=200)
START = Text("systemd's id of a start: 32 hex digits, or nothing", r"([0-9a-f]{32})?", most=32)
REPLICA = Text("a replica's name: small letters, digits and . _ -", r"[a-z0-9][a-z0-9_.-]*", most=128)
MODEL = Text("a model's name, printable and without { and }", r"[^{}]+", most=512)
SOCKET = Text("a socket /run/fleet/NAME/sock", address.SOCKET.pattern, most=200)
REPLICAS = Record({"name": REPLICA, "model": MODEL}, optional={"port": Whole(1, 65535), "socket": SOCKET})
# One of the two says where it listens.
LISTENS = Either((Record({"socket": Text()}, open=True), Record({"port": Whole()}, open=True)), "a socket or a port")
VALUE = Either((*managed_set.ATTRIBUTE.forms, validators.Nothing()), managed_set.ATTRIBUTE.wanted)

# What a run's results hold, by kind: each comes from a node.
RESULTS: Mapping[str, Mapping[str, Form]] = {
    "Host": {"gpus": Whole(0, 64), "driver": VERSIONS, "engine": START},
    "Image": {
        "image": validators.IMAGE,
        "commit": validators.HEX[40],
        "version": VERSION,
        "recipe": validators.HEX[64],
    },
    "Weights": {
        "path": validators.PATH,
        "revision": validators.HEX[40],
        "bytes": Whole(),
        "files": Whole(0, 1_000_000),
        "manifest": validators.HEX[64],
    },
    "Serving": {"replicas": Each(Both(REPLICAS, LISTENS), most=64)},
    "Node": {"facts": Record({"system": VERSIONS, "kernel": VERSION, "arch": VERSION, "python": VERSION})},
}
# What the provider itself writes: of a connection's words, counts, times, and paths of this machine.
OWN: Mapping[str, Mapping[str, Form]] = {
    "Node": {"connection": Record({}, open=True)},
    "Serving": {"verdict": Record({"passed": Whole(), "total": Whole(), "evidence": Text()})},
    "HostKey": {
        "public": Text(),
        "private": Text(lines=True),
        "final": Record({"public": Text(), "private": Text(lines=True)}),
    },
    "BareMetal": {
        "installed": Text(),
        "attempt": Table(validators.NAME, Text()),
        "power": Text(),
        "settings": Table(
            Text(), Either((Text(), Number(-1e18, 1e18), Flag(), validators.Nothing()), "a setting's value")
        ),
        "differences": Each(Record({"name": Text(), "seen": Text(), "wanted": Text()})),
    },
}
# Of every Ansible resource. `managed` names things as "KIND NAME": the names come from a run's results, the attributes from the reader on the node.
BASE: Mapping[str, Form] = {
    "managed": Record({"declared": Table(managed_set.THING, Flag()), "expected": managed_set.STATE}),
    "drift": Each(
        Record({"kind": Text(), "name": Text(), "attribute": validators.NAME, "expected": VALUE, "seen": VALUE})
    ),
    "seconds": Table(validators.NAME, Number()),
    "took": Table(validators.NAME, Number()),
    "log": Text(),
}


def forms(kind: str) -> Mapping[str, Form]:
    """Return the form of each output of a kind of resource, by name."""
    base = BASE if kind in ("Host", "Image", "Weights", "Serving") else {}
    return {**base, **RESULTS.get(kind, {}), **OWN.get(kind, {})}


def checked(kind: str, target: ssh.Target, found: Mapping[str, Any], next: str) -> Props:
    """Return those of a node's results that are outputs of a kind. Raises OutputMalformed for the first of another form than it should have."""
    wanted = RESULTS[kind]
    if mistake := Record({}, open=True).mistake(found, "results"):
        raise refused(kind, target, mistake, next)
    results = {name: found[name] for name in wanted if name in found}
    for name, value in results.items():
        if mistake := wanted[name].mistake(value, name):
            raise refused(kind, target, mistake, next)
    return results


def stays(results: Mapping[str, Any]) -> list[str]:
    """Return what a take-off says of what stays, as far as it has the form for that: it only tells."""
    told = results.get("fleet_teardown")
    words = told.get("stays") if isinstance(told, Mapping) else None
    return [str(one) for one in words] if words and not Each(Text(), most=1000).mistake(words, "") else []


def refused(kind: str, target: ssh.Target, mistake: Mistake, next: str) -> errors.OutputMalformed:
    """Return the error for an output of another form than it should have."""
    return errors.OutputMalformed(
        node=target.name,
        doing=f"output {mistake.at} of {kind}",
        seen=mistake.seen,
        wanted=mistake.wanted,
        next=f"it is not what the role prints: find out what answers there (`{target.login}`, then `command -V python3`);\n{next}",
    )


def sound(declared: managed_set.Declared) -> managed_set.Declared:
    """Return what of a run's declared things has the right form: what a state may keep of a node that sends others."""
    return managed_set.Declared({what: made for what, made in declared.things.items() if not _strange(what, made)})


def judge(kind: str, target: ssh.Target, declared: managed_set.Declared, next: str) -> managed_set.Declared:
    """Return what a run declares. Raises OutputMalformed where a thing of it has no name that it may have."""
    for what, made in declared.things.items():
        if mistake := _strange(what, made):
            raise refused(kind, target, mistake, next)
    return declared


def _strange(what: Any, made: Any) -> Mistake | None:
    return managed_set.THING.mistake(what, "managed.declared") or Flag().mistake(made, "managed.declared")
