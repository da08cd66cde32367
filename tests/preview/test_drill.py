"""`fleet drill` on the real Pulumi engine: a protected node is released, torn down and set up again, and the others are not touched.

The stack prod is deployed with the stand-in plugin, whose machines are not there; what would ask them is a stand-in, too. Needs `pulumi` on
PATH; skipped with that reason where it is not.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click import testing

from fleet import errors
from fleet.cli import drill, main
from fleet.managed import rotation
from tests.support.environment import expect_success
from tests.support.pulumi_project import FLAG, Fleet, environment_of

pytestmark = pytest.mark.timeout(600)  # each deploys a stack several times
UP = ("up", "--yes", "--skip-preview")
BUDGETS = "  glm-fleet:drill: {budgets: {host: 10, total: 3600}}\n"


def serves() -> rotation.Look:
    """Return the answer of a node that serves."""
    replicas = {"glm-0": {"unit": "active", "proxy": ""}}
    return rotation.Look("none", False, "", {}, 0, {}, 0, 0, replicas, True)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The stack with budgets, deployed once."""
    fleet = Fleet(tmp_path_factory.mktemp("drill"))
    fleet.file.write_text(re.sub(r"(?m)^  glm-fleet:parallel:", f"{BUDGETS}\\g<0>", fleet.file.read_text()))
    expect_success(fleet.run(*UP))
    return fleet


@pytest.fixture
def fleet(deployed: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """The deployed stack, whose verbs run in this process; each of its nodes says that it serves."""
    for name, value in environment_of(deployed.project / "state").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLEET_STATE", str(deployed.project / "state"))
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE", raising=False)
    monkeypatch.chdir(deployed.project)
    monkeypatch.setattr(rotation, "looks", lambda targets: {name: serves() for name in targets})
    monkeypatch.setattr(drill.Drill, "_require_bare", lambda *_: None)
    monkeypatch.setattr(drill.Drill, "_look", lambda *_: {"files of the weights": "ab12"})
    deployed.log()
    return deployed


def run(*words: str) -> testing.Result:
    return testing.CliRunner().invoke(main.main, ["drill", "-s", "prod", *words])


def reports(fleet: Fleet) -> list[Mapping[str, Any]]:
    folder = fleet.project / "state" / "evidence" / "prod" / "drills"
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []


def protected(fleet: Fleet) -> dict[str, bool]:
    """Return by urn whether Pulumi protects a resource."""
    state = json.loads(expect_success(fleet.run("stack", "export")))
    return {each["urn"]: bool(each.get("protect")) for each in state["deployment"]["resources"]}


def test_one_node_is_rebuilt_and_the_stack_is_as_before(fleet: Fleet) -> None:
    before, file = protected(fleet), fleet.file.read_text()
    result = run("prod-3", "--yes")
    assert result.exit_code == 1, (result.output, result.exception)
    assert "prod-3: serves again after" in result.output
    assert "host: 60 s, budget 10 s: no earlier drill to compare with" in result.output
    done = fleet.log()
    assert [line for line in done if "prod-3" not in line] == [], "no other node is touched"
    runs = [line.removesuffix(" prod-3 begins") for line in done if line.endswith("begins")]
    assert runs == ["Serving", "Weights", "Host", "Host", "Weights", "Serving"], "all are torn down, then set up"
    assert (protected(fleet), fleet.file.read_text()) == (before, file)
    expect_success(fleet.run("preview", "--expect-no-changes"))
    (report,) = reports(fleet)
    assert {"teardown", "rebuild", "verify", "total", "host", "vllm"} <= {*report["phases"]} and not report["error"]
    assert report["same"] and all(each["before"] == each["after"] for each in report["same"])


def test_a_stack_with_changes_is_not_drilled(fleet: Fleet) -> None:
    before = fleet.file.read_text()
    fleet.set(FLAG, "32768")
    try:
        result = run("prod-2", "--yes")
    finally:
        fleet.file.write_text(before)
    assert result.exit_code == 2 and "wanted: a preview without changes" in result.output
    assert fleet.log() == []


def test_without_a_yes_nothing_is_done(fleet: Fleet) -> None:
    kept = reports(fleet)
    result = testing.CliRunner().invoke(main.main, ["drill", "-s", "prod", "prod-2"], input="n\n")
    assert result.exit_code == 2 and "3 of 4 nodes serve meanwhile" in result.output
    assert reports(fleet) == kept and fleet.log() == []


def test_a_node_that_is_out_of_service_uses_the_budget_up(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = errors.Unreachable(node="prod-4", doing="connect", seen="no answer within 5 s")
    monkeypatch.setattr(
        rotation, "looks", lambda targets: {name: dead if name == "prod-4" else serves() for name in targets}
    )
    result = run("prod-2", "--yes")
    assert result.exit_code == 2 and "out of service already: prod-4; 2 others serve" in result.output


def test_a_drill_that_stops_says_how_the_node_comes_back(fleet: Fleet, tmp_path: Path) -> None:
    fleet.machines(failing=["Serving prod-3"])
    result = run("prod-3", "--yes")
    assert result.exit_code == 2
    assert "`pulumi up -s prod --policy-pack policies` goes on: the stack file is unchanged" in result.output
    assert reports(fleet)[-1]["error"].startswith("prod-3: set up and tear down: `pulumi up` ended with ")
    fleet.machines()
    expect_success(fleet.run(*UP))
    expect_success(fleet.run("preview", "--expect-no-changes"))
