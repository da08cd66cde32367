"""The real engine ends a preview with what it foretells, and nothing of that is left in a state or counted anywhere.

The stack prod is deployed with a stand-in plugin: machines that are not there, and whose runs take as long as is said here.
Needs `pulumi` on PATH (`make setup`, `eval "$(make env)"`); skipped with that reason where it is not.
"""

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.pulumi_project import Fleet, pulumi

FLAG = 'glm-fleet:vars.vllm_flags["max-model-len"]'


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, str]:
    """A stack that was previewed and not deployed, and that preview."""
    fleet = Fleet(tmp_path_factory.mktemp("forecast"))
    return fleet, fleet.run("preview")[1]


@pytest.fixture(scope="module")
def deployed(first: tuple[Fleet, str]) -> tuple[Fleet, str]:
    """The same stack deployed, and what that said."""
    code, output = first[0].run("up", "--yes", "--skip-preview")
    assert code == 0, output
    return first[0], output


@pytest.fixture
def fleet(deployed: tuple[Fleet, str]) -> Iterator[Fleet]:
    """The deployed stack; its file and its machines are as before when the test is over."""
    yield deployed[0]
    deployed[0].file.write_text(deployed[0].as_deployed)
    deployed[0].machines()


def diagnostics(output: str) -> str:
    """Return all that stands under Diagnostics, without its indent."""
    told = output.partition("Diagnostics:\n")[2].partition("\nOutputs:")[0].partition("\nResources:")[0]
    return "".join(f"{line.removeprefix('  ')}\n" for line in told.splitlines() if line.strip())


def beside_the_stack(*lines: str) -> str:
    return "".join(f"{line}\n" for line in ("pulumi:pulumi:Stack (glm-fleet-prod):", *(f"  {line}" for line in lines)))


def test_a_first_preview_says_that_all_machines_are_set_up(first: tuple[Fleet, str]) -> None:
    told = beside_the_stack("4 nodes: set up, not measured yet", "  prod-1, prod-2, prod-3, prod-4")
    assert diagnostics(first[1]) == told
    assert "+ 19 to create" in first[1]


def test_the_update_itself_foretells_nothing_and_makes_nothing_more(deployed: tuple[Fleet, str]) -> None:
    assert diagnostics(deployed[1]) == ""
    assert "+ 19 created" in deployed[1]


def test_where_nothing_changes_nothing_is_said_or_counted(fleet: Fleet) -> None:
    for more in ((), ("--refresh",)):
        code, output = fleet.run("preview", "--expect-no-changes", *more)
        assert code == 0, output
        assert "19 unchanged" in output
        assert "Diagnostics" not in output


def test_a_preview_ends_with_every_machine_s_prediction_and_says_each_beside_its_resource(fleet: Fleet) -> None:
    """The lines can only be whole when the engine has previewed everything before it asks for them."""
    fleet.set(FLAG, "32768")
    fleet.set("glm-fleet:nodes.machines.prod-3.vars.host_kernel_arguments[0]", "amd_iommu=on")
    fleet.set("glm-fleet:parallel", "2")
    code, output = fleet.run("preview")
    assert code == 0, output
    flag = "vllm_flags.max-model-len 65536 -> 32768"
    assert diagnostics(output) == beside_the_stack(
        'prod-3: reboot, about 4 min: host_kernel_arguments ["pci=realloc=off,bfsort", "iommu=pt"] -> ["amd_iommu=on"]',
        f"4 nodes: restart glm-0, glm-1, about 92 s each, 2 at a time: {flag}",
        "  prod-1, prod-2, prod-3, prod-4",
    )
    assert f"fleet:index:Serving prod-4 update [diff: ~vars]; restarts glm-0, glm-1 on prod-4: {flag}" in output


def test_drift_is_foretold_with_what_mending_it_costs(fleet: Fleet) -> None:
    stopped = {"state": "inactive"}
    fleet.machines(drift={"Host prod-1": {"arguments": []}, "Serving prod-2": stopped, "Weights prod-4": {}})
    code, output = fleet.run("preview", "--refresh")
    assert code == 0, output
    assert diagnostics(output) == beside_the_stack(
        "prod-1: reboot, about 4 min: kernel started for /etc/default/grub.d/90-fleet.cfg "
        "(no such kernel argument, wanted kernel argument iommu=pt)",
        "prod-2: restart glm-0, about 92 s: unit glm-0.service (state inactive, wanted state active)",
        "prod-1: await the replicas and probe them again, about 92 s: its Docker daemon restarts",
        "prod-4: repair what drifted, nothing restarts: file /usr/local/lib/fleet/fetch-weights (absent, wanted present)",
    )


def test_a_review_by_machine_reads_the_same_lines(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    done = pulumi(fleet.project, "preview", "--json", "-s", "prod")
    assert [one["message"].splitlines()[0].split(": ")[0] for one in json.loads(done.stdout)["diagnostics"]] == [
        "4 nodes"
    ]


def test_a_plan_that_wants_something_else_of_its_machines_changes_none_and_is_kept(fleet: Fleet) -> None:
    """As the engine sees it: until a machine has another reason to be taken anew."""
    key = 'glm-fleet:waivers["preflight-space"]'
    fleet.set(f"{key}.reason", "ticket 4711")
    fleet.set(f"{key}.expires", "2999-12-31")
    code, output = fleet.run("preview", "--expect-no-changes", "--diff")
    assert code == 0 and "preflight" not in output, output
    code, output = fleet.run("up", "--yes", "--skip-preview", "--expect-no-changes")
    assert code == 0, output
    state = json.loads(pulumi(fleet.project, "stack", "export", "-s", "prod").stdout)["deployment"]["resources"]
    kept = [json.loads(item["inputs"]["wants"]) for item in state if item["type"] == "fleet:index:Node"]
    waivers = {"preflight-space": {"reason": "ticket 4711", "expires": "2999-12-31"}}
    assert [(one["stack"], one["waivers"]) for one in kept] == [("organization/glm-fleet/prod", waivers)] * 4


def test_a_refresh_reports_a_node_that_does_not_answer_once(fleet: Fleet) -> None:
    fleet.machines(silent=["prod-2"])
    code, output = fleet.run("preview", "--refresh")
    assert code != 0
    assert sorted(re.findall(r"(?m)^ *error: (.*)$", diagnostics(output))) == [
        "Preview failed: prod-2: connect: no answer",
        "preview failed",
    ]


def test_after_a_failed_machine_a_preview_foretells_what_is_left(fleet: Fleet) -> None:
    """Last of all: it leaves the stack as no other test wants it."""
    fleet.set(FLAG, "32768")
    fleet.machines(silent=["prod-2"])
    code, output = fleet.run("up", "--yes", "--skip-preview", "--continue-on-error")
    assert code != 0
    assert "3 updated" in output and "prod-2: connect: no answer" in output
    code, output = fleet.verb("show")
    assert code == 0, output
    assert re.findall(r"(?m)^prod-\d  glm-0", output) == [f"prod-{number}  glm-0" for number in (1, 2, 3, 4)]
    assert "\n\nprod-2: the last change failed: Serving: connect: no answer\n" in output
    code, output = fleet.run("preview")
    assert code == 0, output
    assert diagnostics(output) == beside_the_stack(
        "prod-2: restart glm-0, glm-1, about 92 s: vllm_flags.max-model-len 65536 -> 32768"
    )
