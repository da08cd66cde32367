"""The real Pulumi engine ends a preview with its forecast, which neither a state nor a count of changes contains.

The stack prod is deployed with a stand-in plugin: imaginary machines, whose runs take the seconds of tests/support/pulumi_project.py.
Needs `pulumi` on PATH (`make setup`, `eval "$(make env)"`); skipped with that reason where it is not.
"""

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import FLAG, Fleet, beside_the_stack, diagnostics, pulumi

DRAINS = "and at most 5 min a node until its requests have ended"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, str]:
    """A new stack, and its preview."""
    fleet = Fleet(tmp_path_factory.mktemp("forecast"))
    return fleet, expect_success(fleet.run("preview"))


@pytest.fixture(scope="module")
def deployed(first: tuple[Fleet, str]) -> tuple[Fleet, str]:
    """The same stack deployed, and the output of that."""
    return first[0], expect_success(first[0].run("up", "--yes", "--skip-preview"))


@pytest.fixture
def fleet(deployed: tuple[Fleet, str]) -> Iterator[Fleet]:
    """The deployed stack; the end of the test restores its file and its machines."""
    yield deployed[0]
    deployed[0].file.write_text(deployed[0].as_deployed)
    deployed[0].machines()


def test_a_first_preview_predicts_the_setup_of_all_machines(first: tuple[Fleet, str]) -> None:
    expected = beside_the_stack("4 nodes: set up, not measured yet", "  prod-1, prod-2, prod-3, prod-4")
    assert diagnostics(first[1]) == expected
    assert "+ 19 to create" in first[1]


def test_the_update_itself_predicts_nothing_and_creates_nothing_more(deployed: tuple[Fleet, str]) -> None:
    assert diagnostics(deployed[1]) == ""
    assert "+ 19 created" in deployed[1]


def test_without_a_change_a_preview_predicts_and_counts_nothing(fleet: Fleet) -> None:
    for more in ((), ("--refresh",)):
        output = expect_success(fleet.run("preview", "--expect-no-changes", *more))
        assert "19 unchanged" in output
        assert "Diagnostics" not in output


def test_a_preview_ends_with_every_machine_s_prediction_and_has_each_beside_its_resource(fleet: Fleet) -> None:
    """The forecast is complete only if the engine has previewed everything before it requests the forecast."""
    fleet.set(FLAG, "32768")
    fleet.set("glm-fleet:nodes.machines.prod-3.vars.host_kernel_arguments[0]", "amd_iommu=on")
    output = expect_success(fleet.run("preview"))
    flag = "vllm_flags.max-model-len 65536 -> 32768"
    assert diagnostics(output) == beside_the_stack(
        'prod-3: reboot, about 4 min: host_kernel_arguments ["pci=realloc=off,bfsort", "iommu=pt"] -> ["amd_iommu=on"]',
        f"4 nodes: restart glm-0, glm-1, about 92 s each, 1 at a time: {flag}",
        "  prod-1, prod-2, prod-3, prod-4",
        "in turns: prod-1 first (canary, held 60 s), then prod-2, prod-3, prod-4 one at a time; "
        f"at the worst moment 3 of 4 nodes serve; about 11 min, {DRAINS}",
    )
    assert f"fleet:index:Serving prod-4 update [diff: ~vars]; restarts glm-0, glm-1 on prod-4: {flag}" in output


def test_a_preview_predicts_the_cost_of_repairing_drift(fleet: Fleet) -> None:
    stopped = {"state": "inactive"}
    fleet.machines(drift={"Host prod-1": {"arguments": []}, "Serving prod-2": stopped, "Weights prod-4": {}})
    output = expect_success(fleet.run("preview", "--refresh"))
    assert diagnostics(output) == beside_the_stack(
        "prod-1: reboot, about 4 min: kernel started for /etc/default/grub.d/90-fleet.cfg "
        "(no such kernel argument, wanted kernel argument iommu=pt)",
        "prod-2: restart glm-0, about 92 s: unit glm-0.service (state inactive, wanted state active)",
        "prod-1: await the replicas and probe them again, about 92 s: its Docker daemon restarts",
        "prod-4: repair what drifted, nothing restarts: file /usr/local/lib/fleet/fetch-weights (absent, wanted present)",
        f"in turns: prod-1 first (canary, held 60 s), then prod-2; at the worst moment 3 of 4 nodes serve; about 8 min, {DRAINS}",
    )


def test_a_review_by_machine_reads_the_same_lines(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    items = json.loads(pulumi(fleet.project, "preview", "--json", "-s", "prod").stdout)["diagnostics"]
    assert [item["message"].splitlines()[0].split(": ")[0] for item in items] == ["4 nodes", "in turns"]


def test_new_requirements_of_a_plan_change_no_machine_and_enter_the_state(fleet: Fleet) -> None:
    """They apply once a machine changes for another reason."""
    key = 'glm-fleet:waivers["preflight-space"]'
    fleet.set(f"{key}.reason", "ticket 4711")
    fleet.set(f"{key}.expires", "2999-12-31")
    assert "preflight" not in expect_success(fleet.run("preview", "--expect-no-changes", "--diff"))
    expect_success(fleet.run("up", "--yes", "--skip-preview", "--expect-no-changes"))
    state = json.loads(pulumi(fleet.project, "stack", "export", "-s", "prod").stdout)["deployment"]["resources"]
    wants = [json.loads(item["inputs"]["wants"]) for item in state if item["type"] == "fleet:index:Node"]
    waivers = {"preflight-space": {"reason": "ticket 4711", "expires": "2999-12-31"}}
    assert [(want["stack"], want["waivers"]) for want in wants] == [("organization/glm-fleet/prod", waivers)] * 4


def test_a_refresh_reports_a_node_that_does_not_answer_once(fleet: Fleet) -> None:
    fleet.machines(silent=["prod-2"])
    output = expect_failure(fleet.run("preview", "--refresh"))
    assert sorted(re.findall(r"(?m)^ *error: (.*)$", diagnostics(output))) == [
        "Preview failed: prod-2: connect: no answer",
        "preview failed",
    ]


def test_after_a_failed_machine_a_preview_predicts_the_rest(fleet: Fleet) -> None:
    """The last test of the file: it leaves the stack incomplete."""
    fleet.set(FLAG, "32768")
    fleet.machines(failing=["Serving prod-4"])
    output = expect_failure(fleet.run("up", "--yes", "--skip-preview", "--continue-on-error"))
    assert "3 updated" in output and "prod-4: serving: it broke" in output
    output = expect_success(fleet.verb("show"))
    assert re.findall(r"(?m)^prod-\d  glm-0", output) == [f"prod-{number}  glm-0" for number in (1, 2, 3, 4)]
    assert "\n\nprod-4: the last change failed: Serving: serving: it broke\n" in output
    output = expect_success(fleet.run("preview"))
    assert diagnostics(output) == beside_the_stack(
        "prod-4: restart glm-0, glm-1, about 92 s: vllm_flags.max-model-len 65536 -> 32768",
        "in turns: prod-4 alone (no canary: prod-1 is not changed); at the worst moment 3 of 4 nodes serve; "
        f"about 92 s, {DRAINS}",
    )
