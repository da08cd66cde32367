"""Reports of changes that a reviewer meets, as `fleet review` would build them from a preview. Pure."""

from collections.abc import Sequence

from fleet.drift import Difference
from fleet.impact.effects import Effect
from fleet.impact.forecast import Change
from fleet.impact.forecast_turns import Turns
from fleet.review.record import Basis, FileRecord, Prediction, VersionChange
from fleet.review.report import Evidence, Operation, Remark, Report, Vulnerability, Waiver

FLAG = Effect("restart", ("glm-0", "glm-1"), ("vllm_flags.max-model-len 65536 -> 32768",))
DRIVER = ("rocm_driver_release 30.30.3 -> 30.40", "rocm_version 7.2.3 -> 7.3")
REBOOT = Effect("reboot", (), DRIVER)
AWAIT = Effect("await", (), ("its Docker daemon restarts",))
EVIDENCE = Evidence("4f0c1e2a" + "0" * 32, False, "5" * 64, True)
STOPPED = Difference("unit", "glm-0.service", "state", "active", "inactive")
UNCHECKED = ("what roles write by facts of the host: the run reads these",)
CONFIG = ("/etc/fleet/vllm/config.yaml", ("-max-model-len: 65536", "+max-model-len: 32768"), True)
HOSTILE = "file /srv/</details><img src=x onerror=alert(1)> ```` @all [x](javascript:1) | \u202e"


def names(count: int, first: int = 1) -> list[str]:
    return [f"prod-{number}" for number in range(first, count + 1)]


def urn(kind: str, node: str) -> str:
    parent = "" if kind == "Node" else "fleet:index:Node$"
    return f"urn:pulumi:prod::glm-fleet::{parent}fleet:index:{kind}::{node}"


def step(op: str, kind: str, node: str, *causes: str) -> Operation:
    return Operation(urn(kind, node), f"fleet:index:{kind}", op, causes)


def prediction(
    nodes: Sequence[str],
    changes: Sequence[Change],
    versions: Sequence[VersionChange] = (),
    drift: Sequence[str] = (),
    difference: Difference = STOPPED,
    files: Sequence[FileRecord] = (),
) -> Prediction:
    """Return a prediction for a stack of these nodes, with turns; a unit of those in `drift` is stopped."""
    basis = {urn("Node", node): Basis("a" * 16, True, "b" * 16, {"facts.kernel": "6.8"}) for node in nodes}
    for node in nodes:
        found = (difference,) if node in drift else ()
        basis[urn("Serving", node)] = Basis("c" * 16, True, "d" * 16, {}, found)
    turns = Turns((*nodes,))
    return Prediction(tuple(turns.mark(changes)), basis, tuple(versions), turns, files=tuple(files))


def nothing() -> Report:
    return Report("prod", prediction(names(12), ()), (), EVIDENCE, unchanged=61)


def flag_on_twelve_nodes() -> Report:
    nodes = names(12)
    changes = [Change(node, FLAG, 1800.0, "Serving") for node in nodes]
    remark = Remark(
        "no-way-out",
        "vllm_network is bridge: an attacker reaches its neighbours\nremedy: leave it out",
        False,
        ("prod-1",),
    )
    waiver = Waiver("vllm-cve-floor", "no image with 0.32.0 yet, ticket 4711", "2026-12-31")
    return Report(
        "prod",
        prediction(nodes, changes, drift=["prod-3"], files=[FileRecord(*CONFIG, tuple(nodes))]),
        tuple(step("update", "Serving", node) for node in nodes),
        EVIDENCE,
        (remark,),
        (waiver,),
        unchecked=UNCHECKED,
        unchanged=49,
    )


def driver_with_reboots_and_a_replacement() -> Report:
    nodes = names(12)
    changes = [Change(node, REBOOT, 600.0, "Host") for node in nodes if node != "prod-7"]
    changes += [Change(node, AWAIT, 900.0, "Serving") for node in nodes if node != "prod-7"]
    kinds = ("Node", "Host", "Weights", "Serving")
    changes += [Change("prod-7", Effect("replace", (kind,), ("name changed",)), None, kind) for kind in kinds]
    versions = [
        VersionChange(node, name, old, new)
        for name, old, new in (("driver", "30.30.3", "30.40"), ("ROCm", "7.2.3", "7.3"), ("vLLM", "0.31.0", "0.32.0"))
        for node in nodes
    ]
    steps = [step("update", kind, node) for node in nodes for kind in ("Host", "Serving") if node != "prod-7"]
    steps += [step("replace", kind, "prod-7", *(["name"] if kind == "Node" else ["node.name"])) for kind in kinds]
    known = (
        Vulnerability("CVE-2026-90001", "a new one", False),
        Vulnerability("CVE-2026-90002", "a crafted video runs code", True),
    )
    return Report(
        "prod", prediction(nodes, changes, versions), tuple(steps), EVIDENCE, vulnerabilities=known, unchecked=UNCHECKED
    )


def destructive() -> Report:
    kinds = ("Node", "Host", "Weights", "Serving")
    steps = tuple(step("delete", kind, node) for node in ("prod-3", "prod-4") for kind in kinds)
    return Report("prod", prediction(names(2), ()), steps, EVIDENCE, unchanged=9)


def refused() -> Report:
    failure = 'Preview failed: unable to delete resource "urn"\nas it is currently marked for protection.'
    return Report("prod", prediction(names(4), ()), (), EVIDENCE, failures=(failure,), unchanged=3)


def everything_on_500_nodes() -> Report:
    """The longest report: nodes that differ in everything, text of nodes that tries to leave its place."""
    nodes = names(500)
    changes = []
    for number, node in enumerate(nodes):
        reasons = tuple(f"{HOSTILE} {number} {word} 1 -> 2" for word in ("one", "two", "three"))
        changes.append(
            Change(node, Effect(("reboot", "restart", "reload", "none")[number % 4], (), reasons), 600.0, "Host")
        )
    versions = [VersionChange(node, f"name-{node}", "1", HOSTILE) for node in nodes]
    steps = [step("delete", "Node", f"gone-{number}") for number in range(200)]
    steps += [step("replace", "Serving", node, f"node.{node}") for node in nodes[:200]]
    steps += [step("eat", "Serving", "prod-9")]
    remarks = [Remark(f"rule-{number}", f"{HOSTILE}\n" * 9, number < 9, tuple(nodes[:20])) for number in range(100)]
    waivers = [Waiver(f"rule-{number}", HOSTILE, "2026-12-31") for number in range(60)]
    known = [Vulnerability(f"CVE-2026-{number}", HOSTILE, number % 2 == 0) for number in range(80)]
    difference = Difference("file", HOSTILE, "mode", "0644", "0600")
    files = [FileRecord(f"{HOSTILE} {node}", (f"-{HOSTILE}", f"+{HOSTILE}"), False, (node,)) for node in nodes]
    return Report(
        "prod",
        prediction(nodes, changes, versions, nodes, difference, files),
        tuple(steps),
        EVIDENCE,
        tuple(remarks),
        tuple(waivers),
        tuple(known),
        tuple(f"{HOSTILE} {number}" for number in range(30)),
        tuple(f"thing {number}: {HOSTILE}" for number in range(9)),
    )


REPORTS = {
    "nothing-to-do": nothing,
    "a-flag-on-twelve-nodes": flag_on_twelve_nodes,
    "a-driver-with-reboots-and-a-replacement": driver_with_reboots_and_a_replacement,
    "destructive": destructive,
    "refused": refused,
}
