"""Each output has a form; another form of a hostile node ends the run in one message and keeps the state.

What Ansible would do with such a value, end to end: tests/provider/test_hostile.py.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import errors, ssh
from fleet.ansible import converge
from fleet.managed import managed_set
from fleet.provider import base, kinds, outputs
from fleet.provider.base import InitFailed
from fleet.provider.playbook import Playbook
from fleet.provider.slots import Slots
from tests.support.recorded_state import RECORDED
from tests.support.recorded_state import resources as recorded
from tests.support.right_outputs import RIGHT

EVIL = "{{ lookup('ansible.builtin.pipe', 'touch /tmp/x') }}"
KINDS = kinds.kinds(Slots())
CONNECTION = {"name": "glm-1", "address": "192.0.2.1"}


def spoiled(value: Any) -> Iterator[Any]:
    """Yield a value with hostile text in place of each of its parts, and beside it."""
    yield from (EVIL, None, [], {}, True, -1, 1 << 70, 1e999, "\x1b[2J", "a\nb", "x" * 100_000)
    yield from ([[value]], {EVIL: value})
    if isinstance(value, str):
        yield from (f"{value}{EVIL}", f"{EVIL}{value}", f"{value}\x9b", f"{value}\u202e")
    if isinstance(value, dict):
        for name in value:
            yield from ({**value, name: part} for part in spoiled(value[name]))
            yield {other: part for other, part in value.items() if other != name}
        yield {**value, "more": EVIL}
    if isinstance(value, list):
        yield from ([part] for part in spoiled(value[0]))
        yield value * 1000


# Spoiled values that are still right.
RIGHT_STILL: dict[str, list[Any]] = {"engine": [""], "driver": [], "replicas": [[]], "gpus": [], "version": []}
RIGHT_STILL["acme"] = [{}, {**RIGHT["Gateway"]["acme"], "right": True}]


def spoils(kind: str, name: str) -> list[Any]:
    value = RIGHT[kind][name]
    return [wrong for wrong in spoiled(value) if wrong not in RIGHT_STILL.get(name, [])]


EACH = [pytest.param(kind, name, id=f"{kind} {name}") for kind, names in outputs.RESULTS.items() for name in names]


@pytest.mark.parametrize("kind", KINDS)
def test_each_output_has_a_form(kind: str) -> None:
    without = sorted({*KINDS[kind].computed} - {*outputs.forms(kind)})
    assert not without, (
        f"{kind} has the outputs {', '.join(without)} without a form: add a row to fleet/provider/outputs.py "
        "(RESULTS for what a node reports, OWN for what the provider writes), and a right value to RIGHT"
    )
    assert {*outputs.RESULTS.get(kind, {})} == {*RIGHT.get(kind, {})}, (
        f"each result of {kind} in fleet/provider/outputs.py (RESULTS) has a right value in tests/support/right_outputs.py"
    )


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_a_right_value_is_accepted(kind: str, name: str) -> None:
    target = ssh.Target.from_inputs(CONNECTION)
    assert outputs.check_results(kind, target, {**RIGHT[kind], "other": EVIL}, "go on") == RIGHT[kind]


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_any_other_value_is_refused_by_name(kind: str, name: str) -> None:
    form = outputs.RESULTS[kind][name]
    assert [wrong for wrong in spoils(kind, name) if form.mistake(wrong, name) is None] == []


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: str(folder.name))
def test_the_outputs_that_earlier_releases_recorded_have_these_forms(folder: Path) -> None:
    for item in recorded(folder):
        kind = item["type"].rpartition(":")[2]
        for name, form in outputs.forms(kind).items():
            if name in item["outputs"]:
                assert form.mistake(item["outputs"][name], name) is None


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)


def request(kind: str) -> base.Request:
    return base.Request(f"urn:pulumi:s::p::fleet:index:{kind}::glm-1", lambda *_: None, threading.Event())


def apply(kind: str, results: Mapping[str, Any], things: Mapping[str, bool]) -> InitFailed:
    """Return the failure of an update of a kind whose node reports these results."""
    name = f"fleet_{kind.lower()}"
    outcome = converge.Outcome({name: results}, managed_set.Declared(dict(things)), 1, 1, {"host": 1.0})
    resource = Playbook(kind, tuple(outputs.RESULTS[kind]), Slots(), run=lambda *_: outcome, read=lambda *_: [{}])
    old = {"managed": {"declared": {"file /old": True}, "expected": {"file /old": {}}}, **RIGHT[kind]}
    with pytest.raises(InitFailed) as caught:
        resource.apply(request(kind), {"node": CONNECTION, "vars": {}, "roles": {}}, old)
    return caught.value


@pytest.mark.parametrize(("kind", "name"), [row for row in EACH if row.values[0] != "Node"])
def test_a_wrong_form_ends_the_run_in_one_message_and_keeps_the_state(kind: str, name: str) -> None:
    failure = apply(kind, {**RIGHT[kind], name: EVIL}, {"file /new": True})
    assert isinstance(failure.error, errors.OutputMalformed)
    assert str(failure).startswith(f"glm-1: output {name} of {kind}: {EVIL}\n  wanted: ")
    assert "`pulumi up` goes on where this stopped" in str(failure)
    assert {key: failure.properties[key] for key in RIGHT[kind]} == RIGHT[kind]
    declared = {"file /old": True, "file /new": True}
    assert failure.properties["managed"] == {"declared": declared, "expected": {"file /old": {}}}


@pytest.mark.parametrize(
    "thing",
    [
        f"file /srv/{EVIL}",
        "file relative",
        "file /etc/../root/.ssh/authorized_keys",
        "file //etc",
        "file /etc/",
        "file /etc/\x1b[2J",
        "file /" + "x" * 2000,
        "unit a.service; touch /tmp/x",
        "unit nothing",
        f"package {EVIL}",
        "package -o",
        "sysctl $(touch /tmp/x)",
        "user root:root",
        "group a b",
        *("container glm-0", "other thing", "file", "", EVIL),  # no run declares a container
    ],
)
def test_a_managed_thing_of_another_name_ends_the_run_and_is_not_kept(thing: str) -> None:
    failure = apply("Host", RIGHT["Host"], {"file /new": True, thing: True})
    assert str(failure).startswith("glm-1: output managed.declared of Host: ")
    assert failure.properties["managed"]["declared"] == {"file /old": True, "file /new": True}
    assert EVIL not in json.dumps(failure.properties)


def test_a_failed_run_keeps_no_such_name_either() -> None:
    def fail(*_: Any) -> converge.Outcome:
        error = errors.ConvergeFailed(seen="it broke")
        error.partial = {"file /new": True, f"file /{EVIL}": True}
        raise error

    inputs = {"node": CONNECTION, "vars": {}, "roles": {}}
    with pytest.raises(InitFailed) as caught:
        Playbook("Host", (), Slots(), run=fail).apply(request("Host"), inputs, None)
    assert caught.value.properties["managed"]["declared"] == {"file /new": True}


def test_a_teardown_reports_what_stays_only_in_its_form() -> None:
    assert outputs.remains({"fleet_teardown": {"stays": ["the model"]}}) == ["the model"]
    for strange in (EVIL, {}, {"stays": EVIL}, {"stays": [{}]}, {"stays": ["\x1b"]}, None, []):
        assert outputs.remains({"fleet_teardown": strange}) == []


def test_each_result_of_a_role_has_a_form() -> None:
    """Where it is no expression. On lab nodes, with the values of real runs: tests/roles/test_results.py."""
    results: dict[str, set[str]] = {}
    for file in (base.ROOT / "roles").glob("*/tasks/*.yml"):
        for task in yaml.safe_load(file.read_text()):
            for name, value in (task.get("ansible.builtin.set_stats") or {}).get("data", {}).items():
                if isinstance(value, dict):
                    results.setdefault(name.removeprefix("fleet_").capitalize(), set()).update(value)
    assert {"Host", "Image", "Serving"} <= results.keys(), "the tasks no longer have their results in set_stats"
    for kind, names in results.items():
        assert names <= outputs.RESULTS[kind].keys(), f"{kind}: add a row to RESULTS in fleet/provider/outputs.py"


def test_a_delete_requests_nothing_for_a_malformed_name() -> None:
    jobs: list[converge.Job] = []

    def run(job: converge.Job, *_: Any) -> converge.Outcome:
        jobs.append(job)
        return converge.Outcome({}, managed_set.Declared(), 0, 0, {})

    declared = {"file /etc/x": True, f"file /srv/{EVIL}": True, f"sysctl {EVIL}": True, f"unit {EVIL}.service": True}
    state = {"node": CONNECTION, "vars": {}, "managed": {"declared": declared, "expected": {}}}
    Playbook("Host", (), Slots(), run=run).delete(request("Host"), state)
    (job,) = jobs
    assert "/etc/x" in json.dumps(job.data) and EVIL not in json.dumps(job.data)
