"""The lines that a preview ends with: tests/unit/golden/impact_forecast has them for each claim."""

import random
from pathlib import Path

import pytest

from fleet.impact import forecast
from fleet.impact.effects import Effect
from fleet.impact.forecast import Change
from fleet.provider import preview_summary

GOLDEN = Path(__file__).parent / "golden" / "impact_forecast"
FLAG = "vllm_flags.max-model-len 65536 -> 32768"
REPLICAS = ("glm-0", "glm-1")


def restart(node: str, seconds: float | None = 92.3, because: str = FLAG, **more: bool) -> Change:
    return Change(node, Effect("restart", REPLICAS, (because,), **more), seconds)


def nothing(node: str, *because: str, seconds: float | None = None) -> Change:
    return Change(node, Effect("none", (), because), seconds)


def new(node: str, *kinds: str) -> list[Change]:
    return [Change(node, Effect("new", (kind,), ())) for kind in kinds]


def nodes(count: int) -> list[str]:
    return [f"prod-{number}" for number in range(1, count + 1)]


WHOLE = ("new", "replace")  # all new, or all replaced, resources of a machine are one line
ROAD = ("Node", "Host", "Weights", "Serving")
REBOOT = Effect("reboot", (), ('host_kernel_arguments ["iommu=pt"] -> ["amd_iommu=on"]',))
DRIFT = "file /etc/x (absent, wanted present)", "package pciutils (absent, wanted present)"
CASES: dict[str, list[Change]] = {
    "nothing": [],
    "every-level": [
        *new("prod-8", *ROAD),
        nothing("prod-7", "the probes changed: they run again", seconds=14),
        Change("prod-6", Effect("repair", (), DRIFT), 11),
        Change("prod-5", Effect("await", (), ("its Docker daemon restarts",)), 52),
        Change("prod-5", Effect("reload", ("docker.service",), ("docker_daemon_options.debug unset -> true",)), 21),
        Change("prod-10", Effect("stop", ("glm-1",), ("vllm_replicas.glm-1 {} -> unset",)), 8),
        Change("prod-9", Effect("start", ("glm-2",), ("vllm_replicas.glm-2 unset -> {}",)), None),
        restart("prod-4"),
        Change("prod-3", REBOOT, 251),
        Change("prod-2", Effect("replace", ("Node",), ("name changed",)), None),
    ],
    "possible-effects-follow-certain-ones": [
        restart("prod-1", because="goes on where its last run stopped", sure=False),
        Change("prod-2", Effect("reboot", (), ("its machine does not exist yet",), sure=False)),
        restart("prod-3"),
    ],
    "three-nodes-are-named": [restart(name) for name in nodes(3)],
    "twelve-nodes-are-listed": [restart(name) for name in nodes(12)],
    "of-a-hundred-twelve-are-listed": [restart(name) for name in nodes(100)],
    "times-that-differ": [restart(name, seconds) for name, seconds in zip(nodes(3), (92, 250, 80), strict=True)],
    "times-that-read-the-same": [restart(name, seconds) for name, seconds in zip(nodes(3), (92.1, 92.4, 92), strict=True)],
    "some-not-measured": [restart(name, None if name == "prod-2" else 92) for name in nodes(6)],
    "none-measured": [restart(name, None) for name in nodes(2)],
    "one-run-is-timed-once": [
        Change("prod-1", REBOOT, 251),
        nothing("prod-1", "host_sysctls.vm.swappiness 60 -> 10", seconds=0),
        restart("prod-1", 92),
    ],
    "runs-of-one-machine-are-one-line": [
        nothing("prod-1", "roles/long_task/files/long_task.py changed", seconds=20),
        nothing("prod-1", "roles/long_task/files/long_task.py changed", seconds=14),
        nothing("prod-1", "roles/long_task/files/long_task.py changed", "the probes changed: they run again", seconds=6),
    ],
    "new-resources-on-an-existing-machine": [*new("prod-1", "Image"), *new("prod-2", "Serving", "Weights", "Host")],
    "replaced-resources": [
        Change("prod-1", Effect("replace", (kind,), ("node.name changed",))) for kind in ("Serving", "Host")
    ],
    "many-reasons": [
        Change("prod-1", Effect("restart", REPLICAS, tuple(f"roles/vllm/templates/{n}.j2 changed" for n in "abcdefghijklmn")), 92)
    ],
    "few-values-are-listed": [
        restart(name, because=f"vllm_image sha256:{number} -> (known later)") for number, name in enumerate(nodes(3))
    ],
    "many-values-are-not-listed": [
        Change(name, Effect("restart", REPLICAS, (FLAG, f"vllm_image sha256:{number} -> (known later)")), 92)
        for number, name in enumerate(nodes(5))
    ],
    "drift-of-many": [
        Change(name, Effect("restart", ("glm-0",), (f"unit glm-0.service (state {seen}, wanted state active)",)), 92)
        for name, seen in zip(nodes(5), ("failed", "inactive", "failed", "deactivating", "odd"), strict=True)
    ],
    "drift-of-every-kind": [
        Change(name, Effect("repair", (), (f"file /etc/{name} (absent, wanted present)", DRIFT[0])), 11) for name in nodes(7)
    ],
}  # fmt: skip


@pytest.mark.parametrize("claim", CASES)
def test_a_preview_ends_with_the_effects_that_it_predicts(claim: str) -> None:
    text = "".join(f"{line}\n" for line in forecast.lines(CASES[claim], parallel=4))
    assert text == (GOLDEN / f"{claim}.txt").read_text()


@pytest.mark.parametrize("claim", CASES)
def test_the_lines_do_not_depend_on_the_order_of_the_machines(claim: str) -> None:
    by_machine: dict[str, list[Change]] = {}
    for change in CASES[claim]:
        by_machine.setdefault(change.node, []).append(change)
    machines = list(by_machine.values())
    for seed in range(5):
        random.Random(seed).shuffle(machines)
        changes = [change for changes in machines for change in changes]
        assert forecast.lines(changes, 4) == forecast.lines(CASES[claim], 4)


@pytest.mark.parametrize("claim", CASES)
def test_a_group_counts_each_of_its_machines(claim: str) -> None:
    groups = [line.partition(": ")[0] for line in forecast.lines(CASES[claim], 4)]
    sizes = [int(names.split()[0]) if names.endswith(" nodes") else len(names.split(", ")) for names in groups]
    effects = [(change.node, change.effect) for change in CASES[claim]]
    lines = {(node, effect.level, effect.sure, effect.level in WHOLE or effect.what) for node, effect in effects}
    assert sum(sizes) == len(lines)


def test_every_golden_file_has_a_claim() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(CASES), (
        "each of CASES has its golden text tests/unit/golden/impact_forecast/CLAIM.txt, and each text its case"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (92.3, "92 s"), (119, "119 s"), (120, "2 min"), (251, "4 min"), (5400, "90 min"),
     (7200, "2 h"), (9000, "2.5 h")],
)  # fmt: skip
def test_a_duration_has_the_unit_that_a_user_plans_in(seconds: float, text: str) -> None:
    assert forecast.duration(seconds) == text


def test_the_lines_report_each_effect_of_one_run_and_time_the_run_once() -> None:
    summary = preview_summary.PreviewSummary()
    reload = Effect("reload", ("docker.service",), ("docker_daemon_options.debug unset -> true",))
    summary.add_update("urn:pulumi:prod::glm-fleet::fleet:index:Host::prod-1", [REBOOT, reload], {"reboot": 251.0})
    assert summary.lines(4) == [
        'prod-1: reboot, about 4 min: host_kernel_arguments ["iommu=pt"] -> ["amd_iommu=on"]',
        "prod-1: reload docker.service, in the same run: docker_daemon_options.debug unset -> true",
    ]
