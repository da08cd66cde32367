"""This release reads the state of each earlier release: its preview is empty, and each request accepts it.

Each folder of recorded/state is a lab stack of that release (tests/support/recorded_state.py). Its machines are gone: nothing connects.
The roles' files and the probes, which may differ from release to release, are those of today: tests/provider claims that their change is shown.
"""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet.ansible import converge
from fleet.managed import managed_set
from fleet.provider import kinds
from fleet.provider.base import Request
from fleet.provider.playbook import RESTARTED, Playbook
from fleet.provider.properties import UNKNOWN, to_dict, to_struct
from fleet.provider.slots import Slots
from fleet.provider.teardown import SWITCH_UNIT
from tests.support.pulumi_project import KEY
from tests.support.recorded_state import MARK, RECORDED, resources

EACH = [
    pytest.param(item, id=f"{folder.name} {item['type'].rpartition(':')[2]} {item['urn'].rpartition('::')[2]}")
    for folder in RECORDED
    for item in resources(folder)
]


def request(item: Mapping[str, Any]) -> Request:
    return Request(item["urn"], lambda text, ephemeral: None, threading.Event())


@pytest.mark.parametrize("item", EACH)
def test_check_accepts_a_recorded_resource_and_it_has_no_difference_to_itself(item: dict[str, Any]) -> None:
    """As the Pulumi engine requests it: through the messages of its protocol."""
    resource = kinds.kinds(Slots())[item["type"].rpartition(":")[2]]
    inputs = to_dict(to_struct(item["inputs"]))
    olds = to_dict(to_struct(item["outputs"]))
    assert resource.check(inputs) == {}, "an earlier release did not write this input: do without it"
    rule = f"an output that an earlier release wrote stays in `computed` of {item['type']}"
    assert {key: value for key, value in olds.items() if key not in resource.computed} == inputs, rule
    planned = resource.planned_outputs(inputs, inputs, olds)
    # An update without a change goes on after a failed run, which may restart Docker.
    assert planned == {**olds, **{key: UNKNOWN for key in RESTARTED if key in olds and key not in inputs}}, (
        "a state of an earlier release lacks the new output: leave it out until the next run, as Image does with `recipe`"
    )


@pytest.mark.parametrize("item", [row for row in EACH if row.values[0]["type"] != "fleet:index:Node"])
def test_a_machine_as_recorded_has_no_drift_and_a_teardown_removes_what_is_ours(item: dict[str, Any]) -> None:
    jobs: list[converge.Job] = []

    def run(job: converge.Job, *_: Any) -> converge.Outcome:
        jobs.append(job)
        return converge.Outcome({}, managed_set.Declared(), 0, 0, {})

    managed = item["outputs"]["managed"]
    kind = item["type"].rpartition(":")[2]

    def read(target: Any, declared: Any) -> list[managed_set.State]:
        assert [each.things for each in declared] == [managed["declared"]]
        return [managed["expected"]]

    resource = Playbook(kind, (), Slots(), run=run, read=read, purge={"driver"})
    assert resource.read(request(item), item["outputs"]) == {**item["outputs"], "drift": []}
    resource.delete(request(item), item["outputs"])
    teardown, parts = jobs[0].data["managed"], ("file", "unit", "package")
    created = {thing for thing, ours in managed["declared"].items() if ours and thing.split()[0] in parts}
    switch = {f"unit {SWITCH_UNIT}"} if kind == "Host" else set()  # no run declares it
    assert {f"{part} {name}" for part in parts for name in teardown[f"{part}s"]} == created | switch


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: str(folder.name))
def test_a_recorded_state_holds_no_secret_but_the_tests_own(folder: Path) -> None:
    def secrets(value: Any) -> list[Any]:
        if isinstance(value, dict) and MARK.items() <= value.items():
            return [json.loads(value["plaintext"])]
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return [secret for item in inside for secret in secrets(item)]

    state = json.loads((folder / "state.json").read_text())
    assert set(secrets(state)) == {KEY}
    assert "secrets_providers" not in state["deployment"]
    assert "secure:" not in (folder / "Pulumi.lab.yaml").read_text()
