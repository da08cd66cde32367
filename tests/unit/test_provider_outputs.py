"""Each output has a form, and what a hostile node puts into one of them ends the run in one message, with the state kept.

What Ansible would make of such a value, end to end: tests/provider/test_hostile.py.
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
from fleet.provider import base, outputs, servicer
from fleet.provider.base import InitFailed
from fleet.provider.playbook import Playbook
from fleet.provider.slots import Slots
from tests.support.recorded_state import RECORDED
from tests.support.recorded_state import resources as recorded
from tests.support.right_outputs import RIGHT

EVIL = "{{ lookup('ansible.builtin.pipe', 'touch /tmp/x') }}"
KINDS = servicer.kinds(Slots())
CONNECTION = {"name": "glm-1", "address": "192.0.2.1"}


def spoiled(value: Any) -> Iterator[Any]:
    """Yield a value with a hostile text in the place of each part of it, and beside it."""
    yield from (
        EVIL,
        None,
        [],
        {},
        True,
        -1,
        1 << 70,
        1e999,
        "\x1b[2J",
        "a\nb",
        "x" * 100_000,
        [[value]],
        {EVIL: value},
    )
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


# What a spoiled value may still be.
RIGHT_STILL = {"engine": [""], "driver": [], "replicas": [[]], "gpus": [], "version": []}


def spoils(kind: str, name: str) -> list[Any]:
    value = RIGHT[kind][name]
    return [one for one in spoiled(value) if one not in RIGHT_STILL.get(name, [])]


EACH = [pytest.param(kind, name, id=f"{kind} {name}") for kind, names in outputs.RESULTS.items() for name in names]


@pytest.mark.parametrize("kind", KINDS)
def test_each_output_has_a_form(kind: str) -> None:
    lacks = sorted({*KINDS[kind].computed} - {*outputs.forms(kind)})
    assert not lacks, (
        f"{kind} has the outputs {', '.join(lacks)} without a form: add a row to fleet/provider/outputs.py "
        "(RESULTS for what a node says, OWN for what the provider writes), and a right value to RIGHT here"
    )
    assert {*outputs.RESULTS.get(kind, {})} == {*RIGHT.get(kind, {})}, (
        f"each result of {kind} in fleet/provider/outputs.py (RESULTS) has a right value in tests/support/right_outputs.py"
    )


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_a_right_value_is_taken(kind: str, name: str) -> None:
    target = ssh.Target.from_inputs(CONNECTION)
    assert outputs.check_results(kind, target, {**RIGHT[kind], "other": EVIL}, "go on") == RIGHT[kind]


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_any_other_value_is_refused_by_name(kind: str, name: str) -> None:
    form = outputs.RESULTS[kind][name]
    taken = [one for one in spoils(kind, name) if form.mistake(one, name) is None]
    assert taken == []


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: str(folder.name))
def test_what_earlier_releases_recorded_has_these_forms(folder: Path) -> None:
    for item in recorded(folder):
        kind = item["type"].rpartition(":")[2]
        for name, form in outputs.forms(kind).items():
            if name in item["outputs"]:
                assert form.mistake(item["outputs"][name], name) is None


def apply(kind: str, results: Mapping[str, Any], things: Mapping[str, bool], path: Path) -> InitFailed:
    """Run an update of a kind whose node says this; return in what it ended."""
    name = f"fleet_{kind.lower()}"
    outcome = converge.Outcome({name: results}, managed_set.Declared(dict(things)), 1, 1, {"host": 1.0})
    resource = Playbook(kind, tuple(outputs.RESULTS[kind]), Slots(), run=lambda *_: outcome, read=lambda *_: [{}])
    request = base.Request(f"urn:pulumi:s::p::fleet:index:{kind}::glm-1", lambda *_: None, threading.Event())
    old = {"managed": {"declared": {"file /old": True}, "expected": {"file /old": {}}}, **RIGHT[kind]}
    with pytest.raises(InitFailed) as caught:
        resource.apply(request, {"node": CONNECTION, "vars": {}, "roles": {}}, old)
    return caught.value


@pytest.mark.parametrize(("kind", "name"), [one for one in EACH if one.values[0] != "Node"])
def test_a_wrong_form_ends_the_run_in_one_message_and_keeps_the_state(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)
    half = apply(kind, {**RIGHT[kind], name: EVIL}, {"file /new": True}, tmp_path)
    assert isinstance(half.error, errors.OutputMalformed)
    assert str(half).startswith(f"glm-1: output {name} of {kind}: {EVIL}\n  wanted: ")
    assert "`pulumi up` goes on where this stopped" in str(half)
    assert {key: half.properties[key] for key in RIGHT[kind]} == RIGHT[kind]
    assert half.properties["managed"] == {
        "declared": {"file /old": True, "file /new": True},
        "expected": {"file /old": {}},
    }


@pytest.mark.parametrize(
    "what",
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
        "container glm-0",  # no run declares one
        "other thing",
        "file",
        "",
        EVIL,
    ],
)
def test_a_managed_thing_of_another_name_ends_the_run_and_is_not_kept(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)
    half = apply("Host", RIGHT["Host"], {"file /new": True, what: True}, tmp_path)
    assert str(half).startswith("glm-1: output managed.declared of Host: ")
    assert half.properties["managed"]["declared"] == {"file /old": True, "file /new": True}
    assert EVIL not in json.dumps(half.properties)


def test_a_failed_run_keeps_no_such_name_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)

    def fail(*_: Any) -> converge.Outcome:
        error = errors.ConvergeFailed(seen="it broke")
        error.partial = {"file /new": True, f"file /{EVIL}": True}
        raise error

    request = base.Request("urn:pulumi:s::p::fleet:index:Host::glm-1", lambda *_: None, threading.Event())
    with pytest.raises(InitFailed) as caught:
        Playbook("Host", (), Slots(), run=fail).apply(request, {"node": CONNECTION, "vars": {}, "roles": {}}, None)
    assert caught.value.properties["managed"]["declared"] == {"file /new": True}


def test_what_a_take_off_says_is_told_only_in_its_form() -> None:
    assert outputs.remains({"fleet_teardown": {"stays": ["the model"]}}) == ["the model"]
    for strange in (EVIL, {}, {"stays": EVIL}, {"stays": [{}]}, {"stays": ["\x1b"]}, None, []):
        assert outputs.remains({"fleet_teardown": strange}) == []


def told_by_roles() -> dict[str, set[str]]:
    """Return the results that the tasks of the roles tell, by kind; of a result that is an expression none."""
    found: dict[str, set[str]] = {}
    for file in (base.ROOT / "roles").glob("*/tasks/*.yml"):
        for task in yaml.safe_load(file.read_text()):
            for name, value in (task.get("ansible.builtin.set_stats") or {}).get("data", {}).items():
                if isinstance(value, dict):
                    found.setdefault(name.removeprefix("fleet_").capitalize(), set()).update(value)
    return found


def test_each_result_that_a_role_tells_has_a_form() -> None:
    """On lab nodes, with the values of real runs: tests/roles/test_results.py."""
    found = told_by_roles()
    assert {"Host", "Image", "Serving"} <= found.keys(), (
        "the tasks no longer have their results where told_by_roles looks"
    )
    for kind, names in found.items():
        assert names <= outputs.RESULTS[kind].keys(), f"{kind}: add a row to RESULTS in fleet/provider/outputs.py"


def test_a_delete_asks_for_nothing_of_a_name_that_no_thing_has() -> None:
    jobs: list[converge.Job] = []

    def run(job: converge.Job, *_: Any) -> converge.Outcome:
        jobs.append(job)
        return converge.Outcome({}, managed_set.Declared(), 0, 0, {})

    request = base.Request("urn:pulumi:s::p::fleet:index:Host::glm-1", lambda *_: None, threading.Event())
    declared = {"file /etc/x": True, f"file /srv/{EVIL}": True, f"sysctl {EVIL}": True, f"unit {EVIL}.service": True}
    state = {"node": CONNECTION, "vars": {}, "managed": {"declared": declared, "expected": {}}}
    Playbook("Host", (), Slots(), run=run).delete(request, state)
    (job,) = jobs
    assert "/etc/x" in json.dumps(job.data) and EVIL not in json.dumps(job.data)
