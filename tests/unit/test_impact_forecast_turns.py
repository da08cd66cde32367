"""The line of a preview about its turns, below the effects: tests/unit/golden/impact_forecast_turns has both for each claim."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.impact.effects import Effect
from fleet.impact.forecast_turns import Turns
from fleet.provider.preview_summary import PreviewSummary

GOLDEN = Path(__file__).parent / "golden" / "impact_forecast_turns"
RESTART = Effect("restart", ("glm-0", "glm-1"), ("vllm_flags.max-model-len 65536 -> 32768",))
REBOOT = Effect("reboot", (), ('host_kernel_arguments ["iommu=pt"] -> ["amd_iommu=on"]',))
AWAIT = Effect("await", (), ("its Docker daemon restarts",))
PROBES = Effect("none", (), ("the probes changed: they run again",))
PROXY = Effect("restart", ("fleet-proxy",), ("gateway_maxconn 1000 -> 2000",))
UPGRADE = Effect(
    "upgrade",
    ("Kubernetes 1.36.3 to 1.37.2",),
    ("kubernetes_version 1.36.3 -> 1.37.2",),
    manner="pods move to other nodes",
)
KUBELET = Effect("restart", ("kubelet.service",), ("kubernetes_cpu_manager static -> none",))
# Seconds of earlier runs.
TOOK = {"upgrade": 300.0, "restart": 1800.0, "reboot": 600.0, "await": 900.0, "none": 20.0}

Update = tuple[str, str, Sequence[Effect], dict[str, float]]


def nodes(count: int, first: int = 1) -> list[str]:
    return [f"prod-{number}" for number in range(first, count + 1)]


def serving(*names: str, effect: Effect = RESTART, took: dict[str, float] = TOOK) -> list[Update]:
    return [("Serving", name, [effect], took) for name in names]


def host(*names: str) -> list[Update]:
    return [("Host", name, [REBOOT], TOOK) for name in names]


def new(*names: str) -> list[Update]:
    """Nodes of a first set-up."""
    return [(kind, name, [], {}) for name in names for kind in ("Host", "Weights", "Serving")]


PLANES, WORKERS = ("cp-1", "cp-2", "cp-3"), ("a-1", "gpu-1", "gpu-2", "gpu-10")
CLUSTER = Turns((*PLANES, *WORKERS), planes=PLANES, podless=PLANES)


def members(*names: str, effect: Effect = UPGRADE, took: dict[str, float] = TOOK) -> list[Update]:
    return [("Member", name, [effect], took) for name in names]


CASES: dict[str, tuple[Turns, list[Update]]] = {
    "twelve-nodes": (Turns((*nodes(12),)), serving(*nodes(12))),
    "twelve-nodes-three-at-once": (Turns((*nodes(12),), at_once=3), serving(*nodes(12))),
    "two-nodes": (Turns((*nodes(2),)), serving(*nodes(2))),
    "the-first-goes-alone-and-then-two-at-once": (Turns((*nodes(3),), at_once=2), serving(*nodes(3))),
    "the-canary-is-the-builder": (Turns(("prod-3", "prod-1", "prod-2")), serving(*nodes(3))),
    "the-canary-alone": (Turns((*nodes(12),)), serving("prod-1")),
    "one-node-serves-alone": (Turns(("prod-1",), drain=0), serving("prod-1")),
    "the-canary-is-not-changed": (Turns((*nodes(4),)), serving("prod-3", "prod-2")),
    "a-canary-without-a-hold": (Turns((*nodes(4),), hold=0), serving(*nodes(4))),
    "without-a-canary": (Turns((*nodes(4),), canary=False), serving(*nodes(4))),
    "reboots": (Turns((*nodes(3),)), [*host(*nodes(3)), *serving(*nodes(3), effect=AWAIT)]),
    "a-reboot-and-a-restart-are-one-turn": (Turns((*nodes(5),)), [*host("prod-2"), *serving(*nodes(5))]),
    "what-comes-before-a-turn-is-not-its-time": (
        Turns((*nodes(2),)),
        [("Host", "prod-1", [PROBES], {"none": 7000.0}), *serving("prod-1")],
    ),
    "some-not-measured": (Turns((*nodes(3),)), [*serving("prod-1", "prod-3"), *serving("prod-2", took={})]),
    "none-measured": (Turns((*nodes(3),)), serving(*nodes(3), took={})),
    "replica-by-replica": (Turns((*nodes(12),), proxies=True), serving(*nodes(12))),
    "replica-by-replica-two-nodes-at-once": (Turns((*nodes(12),), at_once=2, proxies=True), serving(*nodes(12))),
    "one-node-serves-on-with-its-other-replica": (Turns(("prod-1",), proxies=True), serving("prod-1")),
    "a-reboot-takes-the-whole-node": (Turns((*nodes(3),), proxies=True), [*host("prod-2"), *serving(*nodes(3))]),
    "nothing-interrupts": (Turns((*nodes(5),)), serving(*nodes(5), effect=PROBES)),
    "a-first-set-up-needs-no-turn": (Turns((*nodes(3),)), new(*nodes(3))),
    "new-nodes-serve-nothing": (Turns((*nodes(6),)), [*serving(*nodes(4)), *new("prod-5", "prod-6")]),
    "a-machine-without-gpus-needs-no-turn": (Turns((*nodes(2),)), host("gateway-1", "prod-1")),
    "a-cluster-is-upgraded": (CLUSTER, members(*PLANES, *WORKERS)),
    "a-cluster-is-upgraded-two-at-once": (replace(CLUSTER, at_once=2), members(*PLANES, *WORKERS, took={})),
    "a-cluster-s-workers-go-on": (CLUSTER, members("gpu-1", "gpu-2")),
    "the-only-machine-of-a-cluster": (Turns(("cp-1",), planes=("cp-1",)), members("cp-1")),
    "a-control-plane-with-gpus": (Turns(("cp-1", "gpu-1"), planes=("cp-1",)), members("cp-1")),
    "a-member-s-kubelet-needs-no-turn": (CLUSTER, members(*WORKERS, effect=KUBELET)),
    "a-member-reboots": (CLUSTER, host("gpu-1")),
    "a-proxy-needs-no-turn": (Turns((*nodes(2),)), [("Gateway", name, [PROXY], TOOK) for name in nodes(2)]),
}


def lines(turns: Turns | None, updates: Sequence[Update]) -> list[str]:
    summary = PreviewSummary()
    for kind, name, effects, took in updates:
        urn = f"urn:pulumi:prod::glm-fleet::fleet:index:{kind}::{name}"
        if effects:
            replicas = len(effects[0].what) if kind == "Serving" else 0
            summary.add_update(urn, effects, took, replicas)
        else:
            summary.add_create(urn)
    return summary.lines(4, turns)


@pytest.mark.parametrize("claim", CASES)
def test_a_preview_of_a_stack_with_turns_ends_with_their_order(claim: str) -> None:
    text = "".join(f"{line}\n" for line in lines(*CASES[claim]))
    assert text == (GOLDEN / f"{claim}.txt").read_text()


def test_without_turns_the_limit_of_runs_holds_for_all() -> None:
    assert lines(None, serving(*nodes(5)))[0].startswith(
        "5 nodes: restart glm-0, glm-1, about 30 min each, 4 at a time: "
    )


@pytest.mark.parametrize(
    ("at_once", "seconds", "time"),
    [(1, [10, 20, 30, 40], "100 s"), (2, [10, 20, 30, 40], "70 s"), (9, [10, 20, 30, 40], "50 s")],
)
def test_a_time_is_that_of_the_first_and_then_of_the_others_side_by_side(
    at_once: int, seconds: list[int], time: str
) -> None:
    updates = [
        update
        for name, each in zip(nodes(4), seconds, strict=True)
        for update in serving(name, took={"restart": float(each)})
    ]
    turns = Turns((*nodes(4),), at_once=at_once, hold=0, drain=0)
    assert lines(turns, updates)[-1].endswith(f"; about {time}")


def test_every_golden_file_has_a_claim() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(CASES), (
        "each of CASES has its golden text tests/unit/golden/impact_forecast_turns/CLAIM.txt, and each text its case"
    )
