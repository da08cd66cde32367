"""The real Pulumi engine changes the nodes of a stack in turns: its requests, the program's calls and the provider's turns fit together.

The stack prod is deployed with a stand-in plugin: imaginary machines, which serve, drain at once and log what is done to them.
Needs `pulumi` on PATH; skipped with that reason where it is not.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import Fleet, beside_the_stack, diagnostics

NAMES = [f"prod-{number}" for number in (1, 2, 3, 4)]
ARGUMENT = "glm-fleet:vars.host_kernel_arguments[0]"
FLAG = 'glm-fleet:vars.vllm_flags["max-model-len"]'
UP = ("up", "--yes", "--skip-preview")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The stack, deployed."""
    fleet = Fleet(tmp_path_factory.mktemp("turns"))
    expect_success(fleet.run(*UP))
    return fleet


@pytest.fixture
def fleet(deployed: Fleet) -> Iterator[Fleet]:
    """The deployed stack with an empty log; the end of the test restores its file, its machines and its state."""
    deployed.log()
    yield deployed
    deployed.restore()


def errors(output: str) -> list[str]:
    """Return the first lines of the errors beside resources."""
    return sorted(re.findall(r"(?m)^\s*(?:error:|\*) (prod-.*)$", output))


def test_a_change_of_flags_goes_from_node_to_node(fleet: Fleet) -> None:
    fleet.set(FLAG, "32768")
    expect_success(fleet.run(*UP))
    steps = ("drain {}", "Serving {} begins", "Serving {} ends", "give back {}")
    assert fleet.log() == [step.format(name) for name in NAMES for step in steps]


def test_a_node_keeps_its_turn_from_host_to_serving(fleet: Fleet) -> None:
    fleet.set(ARGUMENT, "iommu=soft")
    fleet.set(FLAG, "16384")
    expect_success(fleet.run(*UP))
    turns = [line.split() for line in fleet.log()]
    order = [next(word for word in words if word.startswith("prod-")) for words in turns]
    assert order == sorted(order), "no two nodes at once"
    kinds = [words[0] for words in turns if "prod-3" in words]
    assert kinds == ["drain", "Host", "Host", "drain", "Serving", "Serving", "give"]


def test_a_failed_canary_holds_the_others_back_and_the_next_preview_shows_the_change(fleet: Fleet) -> None:
    fleet.set(FLAG, "8192")
    fleet.machines(failing=["Serving prod-1"])
    output = expect_failure(fleet.run(*UP, "--continue-on-error"))
    assert fleet.log() == ["drain prod-1", "Serving prod-1 begins"]
    assert errors(output) == [
        "prod-1: serving: it broke",
        *(f"{name}: held back: prod-1 failed" for name in NAMES[1:]),
    ]
    fleet.machines()
    assert "4 to update" in expect_success(fleet.run("preview"))


def test_without_continue_on_error_the_others_end_too(fleet: Fleet) -> None:
    fleet.set(FLAG, "8192")
    fleet.machines(failing=["Serving prod-1"])
    output = expect_failure(fleet.run(*UP))
    assert fleet.log() == ["drain prod-1", "Serving prod-1 begins"]
    assert "prod-1: serving: it broke" in output


def test_a_dead_node_ends_a_run_before_it_touches_anything(fleet: Fleet) -> None:
    fleet.set(FLAG, "8192")
    fleet.machines(silent=["prod-3"])
    output = expect_failure(fleet.run(*UP, "--continue-on-error"))
    assert not [line for line in fleet.log() if "prod-3" not in line]
    assert "prod-1: not begun: out of service already: prod-3 does not answer" in errors(output)


def test_a_target_is_changed_in_its_turn(fleet: Fleet) -> None:
    fleet.set(FLAG, "8192")
    urn = "urn:pulumi:prod::glm-fleet::fleet:index:Node$fleet:index:Serving::prod-3"
    expect_success(fleet.run(*UP, "--target", urn))
    assert fleet.log() == ["drain prod-3", "Serving prod-3 begins", "Serving prod-3 ends", "give back prod-3"]


def test_a_preview_of_twelve_nodes_ends_with_their_turns(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    stack = yaml.safe_load(fleet.file.read_text())
    machines = stack["config"]["glm-fleet:nodes"]["machines"]
    machines |= {
        f"prod-{number}": {**machines["prod-1"], "address": f"192.0.2.{number + 20}"} for number in range(5, 13)
    }
    fleet.file.write_text(yaml.safe_dump(stack))
    expect_success(fleet.run(*UP))
    fleet.set(FLAG, "32768")
    assert diagnostics(expect_success(fleet.run("preview"))) == beside_the_stack(
        "12 nodes: restart glm-0, glm-1, about 92 s each, 1 at a time: vllm_flags.max-model-len 65536 -> 32768",
        "  prod-1, prod-2, prod-3, prod-4, prod-5, prod-6, prod-7, prod-8, prod-9, prod-10, prod-11, prod-12",
        "in turns: prod-1 first (canary, held 60 s), then 11 nodes one at a time; at the worst moment 11 of 12 nodes serve; "
        "about 19 min, and at most 5 min a node until its requests have ended",
    )
