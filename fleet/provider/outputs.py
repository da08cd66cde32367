"""The form of each output, which keeps malformed data of a node, a server or a BMC out of the state, and the check of results.

Needs fleet.validators for the kinds of forms. Pure. Called by playbook.py and node.py before any other use of the results.
Add an output: a row here and a value in tests/support/right_outputs.py.
"""

from collections.abc import Mapping
from typing import Any

from fleet import address, errors, ssh, validators
from fleet.managed import managed_set, served_certificate
from fleet.provider.properties import Props
from fleet.validators import Both, Each, Either, Flag, Form, Mistake, Number, Record, Table, Text, Whole

VERSION = Text("a version, of letters, digits and . : + ~ _ -", r"[A-Za-z0-9.:+~_-]*", most=120)
VERSIONS = Text("versions, of letters, digits, spaces and . : + ~ _ -", r"[A-Za-z0-9 .:+~_-]*", most=200)
START = Text("systemd's id of a start: 32 hex digits, or nothing", r"([0-9a-f]{32})?", most=32)
REPLICA = Text("a replica's name: small letters, digits and . _ -", r"[a-z0-9][a-z0-9_.-]*", most=128)
MODEL = Text("a model's name, printable and without { and }", r"[^{}]+", most=512)
SOCKET = Text("a socket /run/fleet/NAME/sock", address.SOCKET.pattern, most=200)
REPLICAS = Record({"name": REPLICA, "model": MODEL}, optional={"port": Whole(1, 65535), "socket": SOCKET})
# A replica listens on one of the two.
LISTENS = Either((Record({"socket": Text()}, open=True), Record({"port": Whole()}, open=True)), "a socket or a port")
PEM = Text("certificates and keys as PEM", r"[\w\s+/=().,:-]+", most=64_000, lines=True)
CERTIFICATE = Text(
    "a certificate as PEM",
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----\n?",
    most=64_000,
    lines=True,
)
PART = Text("first, control-plane or worker", r"first|control-plane|worker")
ENDPOINT = Text("HOST:PORT", r"[A-Za-z0-9.:\[\]-]+:[0-9]+", most=300)
THUMBPRINT = Text("a thumbprint: 43 signs of base64url", r"[A-Za-z0-9_-]{43}", most=43)
DAY = served_certificate.DAY
DAY_OR_NONE = Text("a day as YYYY-MM-DD, or nothing", r"(\d{4}-\d{2}-\d{2})?", most=10)
REPLICA_LIST = Each(Both(REPLICAS, LISTENS), most=64)
ACME = Either((Record({}), served_certificate.CERTIFICATE), "a certificate by ACME, or none")
VERDICT = Record({"passed": Whole(), "total": Whole(), "evidence": Text()})
VALUE = Either((*managed_set.ATTRIBUTE.forms, validators.Nothing()), managed_set.ATTRIBUTE.wanted)

# Results of a run, by kind; a node sends them.
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
    "Serving": {"replicas": REPLICA_LIST},
    "Gateway": {"version": VERSION, "acme": ACME},
    "Member": {"part": PART, "version": VERSION, "endpoint": ENDPOINT, "authority": CERTIFICATE, "ends": DAY_OR_NONE},
    "Node": {"facts": Record({"system": VERSIONS, "kernel": VERSION, "arch": VERSION, "python": VERSION})},
}
# Outputs that the provider itself sets.
OWN: Mapping[str, Mapping[str, Form]] = {
    "Node": {"connection": Record({}, open=True)},
    "Authority": {"certificate": PEM, "private": PEM, "ends": DAY},
    "Account": {"private": PEM, "thumbprint": THUMBPRINT},
    "Weights": {"certificates": Table(validators.NAME, PEM), "ends": Table(validators.NAME, DAY)},
    "Gateway": {"certificates": Table(validators.NAME, PEM), "ends": Table(validators.NAME, DAY)},
    "Serving": {"verdict": VERDICT},
    "Rollout": {
        "pods": Each(Record({"name": validators.NAME, "node": validators.NAME}), most=10_000),
        "verdict": Either((Record({}), VERDICT), "what the probes have found"),
        "good": Record({}, {"template": validators.NAME, "hash": Text()}),
        "running": Text("the digest of a template, or nothing", r"[A-Za-z0-9_.-]*"),
    },
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
# Outputs of each Ansible resource. In `managed`, a run's results contain the names, and on_node_read.py reads the attributes.
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
    """Return the forms of the outputs of a kind, by name."""
    base = BASE if kind in ("Host", "Image", "Weights", "Serving", "Gateway", "Member") else {}
    if kind == "Rollout":
        base = {name: BASE[name] for name in ("drift", "seconds", "took")}
    return {**base, **RESULTS.get(kind, {}), **OWN.get(kind, {})}


def check_results(kind: str, target: ssh.Target, results: Mapping[str, Any], next: str) -> Props:
    """Return those of a node's results that are outputs of the kind. Raises OutputMalformed for the first malformed one."""
    if mistake := Record({}, open=True).mistake(results, "results"):
        raise malformed(kind, target, mistake, next)
    outputs = {name: results[name] for name in RESULTS[kind] if name in results}
    for name, value in outputs.items():
        if mistake := RESULTS[kind][name].mistake(value, name):
            raise malformed(kind, target, mistake, next)
    return outputs


def remains(results: Mapping[str, Any]) -> list[str]:
    """Return the lines of a teardown about what remains on the node; [] if malformed, as they are only shown."""
    teardown = results.get("fleet_teardown")
    lines = teardown.get("stays") if isinstance(teardown, Mapping) else None
    return [str(line) for line in lines] if lines and not Each(Text(), most=1000).mistake(lines, "") else []


def malformed(kind: str, target: ssh.Target, mistake: Mistake, next: str) -> errors.OutputMalformed:
    """Return the error for a malformed output."""
    return errors.OutputMalformed(
        node=target.name,
        doing=f"output {mistake.at} of {kind}",
        seen=mistake.seen,
        wanted=mistake.wanted,
        next=f"the role does not print this: find out which program answered (`{target.login}`, then `command -V python3`);\n{next}",
    )


def well_formed(declared: managed_set.Declared) -> managed_set.Declared:
    """Return the well-formed part of the things that a run declared, for the state of a failed run."""
    return managed_set.Declared({name: ours for name, ours in declared.things.items() if not _mistake(name, ours)})


def check_declared(kind: str, target: ssh.Target, declared: managed_set.Declared, next: str) -> managed_set.Declared:
    """Return the things that a run declared. Raises OutputMalformed for the first malformed one."""
    for name, ours in declared.things.items():
        if mistake := _mistake(name, ours):
            raise malformed(kind, target, mistake, next)
    return declared


def _mistake(name: Any, ours: Any) -> Mistake | None:
    return managed_set.THING.mistake(name, "managed.declared") or Flag().mistake(ours, "managed.declared")
