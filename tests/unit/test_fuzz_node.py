"""Any output of a node, or of an Ansible module, gives a result or a FleetError within a second: never a traceback, never a lost state."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import errors, preflight, ssh
from fleet.ansible import connection_loss, declarations, events, progress
from fleet.cli import verify as fleet_verify
from fleet.impact import effects
from fleet.managed import (
    differences,
    managed_set,
    member_pods,
    owner,
    reader,
    revert,
    rotation,
    snapshot,
    verify_weights,
)
from fleet.managed.standing import Standing
from fleet.preflight import answer
from fleet.provider import node, outputs
from fleet.provider.properties import to_struct
from fleet.ssh import reply, script
from fleet.validators import Record
from tests.support import fuzz
from tests.support.preflight_machines import after_a_run, prod_requirements
from tests.support.pulumi_project import ROOT
from tests.support.right_outputs import RIGHT

TARGET = ssh.Target("glm-1", "192.0.2.1")


class Connection:
    """A connection to a node that answers every command with this output."""

    def __init__(self, stdout: str, rc: int = 0, stderr: str = "") -> None:
        self.target, self._result = TARGET, ssh.Result(rc, stdout, stderr)

    def run(self, *_: Any, **__: Any) -> ssh.Result:
        return self._result

    def lines(self, *_: Any, **__: Any) -> Iterator[str]:
        yield from self._result.stdout.splitlines(keepends=True)


def connect(stdout: str) -> Any:
    return Connection(stdout)


@contextlib.contextmanager
def allow_our_errors() -> Iterator[None]:
    """Let a FleetError pass; its message must be text that a terminal shows."""
    message = ""
    try:
        with fuzz.within(1):
            yield
    except errors.FleetError as error:
        message = str(error)
    message.encode()
    assert "\x1b" not in message


STATE = {
    "file /etc/x": {"type": "file", "mode": "0644", "owner": "root", "group": "root", "sha256": "ab"},
    "unit glm-0.service": {
        "state": "active",
        "drop_ins": ["/etc/systemd/system/a.d/b.conf 1234"],
        "unit_file": "/etc/a",
    },
    "container glm-0": {"of": "unit glm-0.service", "running": True, "environment": ["A=1"]},
    "package docker.io": {"version": "26.1", "held": False},
}
THINGS = managed_set.Declared({"file /etc/x": True, "unit glm-0.service": True, "package docker.io": False})


@given(fuzz.outputs(STATE), fuzz.outputs(STATE))
def test_any_output_is_a_managed_state_or_an_error(first: str, second: str) -> None:
    with allow_our_errors():
        expected, seen = (reader.read(connect(output), THINGS) for output in (first, second))
        drift = differences.drift(expected, seen)
        drifted = revert.Drifted({difference.thing for difference in drift}, expected, seen)
        assert isinstance(drifted.variables, dict)
        drifted.left(seen)
        managed = {"declared": {}, "expected": expected}
        state = {"vars": {}, "roles": {"docker": "1  tasks/main.yml"}, "managed": managed}
        effects.predict([state], state, drift, ROOT / "roles")
        to_struct({"expected": expected, "drift": [item.to_json() for item in drift]}).SerializeToString()


@given(fuzz.outputs({"owner": json.dumps({"id": "a/b/c", "who": "x", "since": "y"}), "gone": False}))
def test_any_output_is_the_mark_of_a_machine_or_an_error(output: str) -> None:
    with allow_our_errors():
        owner.claim(connect(output), "a/b/c")
    with allow_our_errors():
        owner.release(connect(output), "a/b/c")


@given(st.one_of(fuzz.ANYTHING.map(json.dumps), fuzz.WRECKS, st.text(max_size=50)))
def test_any_text_of_a_mark_is_an_owner_or_none(text: str) -> None:
    mark = owner.Owner.read(text)
    if mark:
        mark.is_of("a/b/c")
        str(errors.NotReady(**owner.refusal(mark, TARGET, "a/b/c")))


LOOK = {
    "proxy": "answers",
    "draining": False,
    "reached": True,
    "mark": "turn",
    "marks": {"glm-0": "operator"},
    "requests": 7,
    "in_flight": 1,
    "replicas": {"glm-0": {"unit": "active", "proxy": "UP 1/3"}},
}


@given(fuzz.outputs(LOOK))
def test_any_output_is_how_a_node_serves_or_an_error(output: str) -> None:
    with allow_our_errors():
        seen = rotation.look(connect(output))
        assert isinstance(seen.standing, Standing) and {*seen.failing} | {*seen.inactive} <= {*seen.replicas}
    with allow_our_errors():
        [*rotation.watch(connect(output), 1, threading.Event())]


MEMBERS = {
    "nodes": {"gpu-1": {"version": "v1.37.2", "ready": True, "cordoned": False, "in_turn": False, "plane": False}}
}
EVICTED = {"left": ["glm/a"], "held": {"glm/b": "budget"}, "bare": [], "owners": [["glm", "1-2"]]}


@given(fuzz.outputs(MEMBERS), fuzz.outputs(EVICTED), fuzz.outputs({"waiting": ["glm/a"]}))
def test_any_output_is_how_members_are_or_an_error(members: str, evicted: str, waiting: str) -> None:
    with allow_our_errors():
        for member in member_pods.look(connect(members)).values():
            assert isinstance(member.standing, Standing)
    with allow_our_errors():
        seen = member_pods.evict(connect(evicted), "gpu-1")
        assert "\x1b" not in "".join([*seen.left, *seen.held, *seen.held.values(), *seen.bare])
    with allow_our_errors():
        member_pods.waiting(connect(waiting), "gpu-1", [("glm", "1-2")])


STEP = {"done": True, "in_flight": 0, "silent": ["glm-1"], "up": 1, "known": 2, "drained": False}
RESTORED = {
    "done": True,
    "starting": [],
    "failed": ["glm-0.service"],
    "replicas": [{"name": "a", "model": "m", "port": 1}],
}


@given(fuzz.outputs(STEP), fuzz.outputs(RESTORED))
def test_any_output_is_a_step_of_a_turn_or_an_error(step: str, restored: str) -> None:
    notes: list[str] = []
    with allow_our_errors():
        rotation.drain(connect(step), "turn", 1, notes.append, threading.Event())
    with allow_our_errors():
        rotation.undrain(connect(step), "turn", threading.Event())
    with allow_our_errors():
        snapshot.take(connect(step), ["file /etc/x"], [], True)
    with allow_our_errors():
        snapshot.restore(connect(restored), [], 1, outputs.REPLICA_LIST, notes.append, threading.Event())
    assert "\x1b" not in "".join(notes)


@given(fuzz.outputs(after_a_run()))
def test_any_output_gives_the_results_of_a_preflight_or_an_error(output: str) -> None:
    with allow_our_errors():
        requirements = prod_requirements()
        for result in preflight.check(preflight.read_facts(connect(output), requirements), requirements):
            "".join((result.seen, result.wanted, result.next)).encode()


ANSWERS = [{"done": 1, "total": 2}, {"files": 2, "bytes": 2, "wrong": [{"what": "a", "expected": "b", "seen": "c"}]}]


def verify(output: str, monkeypatch: pytest.MonkeyPatch) -> verify_weights.Comparison:
    """Verify the weights of a node that prints this."""
    monkeypatch.setattr(ssh, "connect", lambda target: contextlib.nullcontext(connect(output)))
    weights = verify_weights.RecordedWeights(TARGET, "/srv/m/manifest.json", "ab", {})
    return verify_weights.verify(weights, lambda done, total: None)


@given(st.tuples(*map(fuzz.outputs, ANSWERS)).map("\n".join))
def test_any_output_gives_the_report_of_a_verification_or_an_error(output: str) -> None:
    with pytest.MonkeyPatch.context() as patch, allow_our_errors():
        weights = verify(output, patch)
        report = fleet_verify.WeightsReport("glm-1", "/srv/m", weights.files, weights.bytes, weights.wrong)
        "".join([fleet_verify.as_table([report]), *fleet_verify.problems([report], "s")]).encode()


@given(
    st.one_of(
        fuzz.outputs("running"), st.sampled_from(["running\n1\n1e999 1", "stopping", f"x\n{'9' * 5000}\n1", "x\n²\n1"])
    )
)
def test_any_output_gives_a_reason_why_a_connection_broke(output: str) -> None:
    assert isinstance(connection_loss._went_down(output, 10.0), str)


@given(fuzz.outputs(RIGHT["Node"]["facts"]))
def test_any_output_gives_the_facts_of_a_node_or_an_error(output: str) -> None:
    with allow_our_errors():
        to_struct({"facts": node._read_facts(connect(output))}).SerializeToString()


RESULT = {
    "changed": True,
    "path": "/etc/x",
    "state": "file",
    "msg": "no",
    "rc": 1,
    "stdout": "The following NEW packages will be installed:\n  a b",
    "diff": [{"before": {"state": "absent"}, "after": "x"}],
    "results": [{"changed": True}],
    "invocation": {"module_args": {"name": ["a", "b=1"], "state": "present", "path": "/etc/x", "pkg": "a,b"}},
    "ansible_stats": {"data": {"fleet_host": {"gpus": 8}}, "aggregate": True},
}
ACTIONS = ["apt", "copy", "systemd_service", "user", "dpkg_selections", "set_stats", "command", "reboot"]
EVENTS = ["on_ok", "item_on_ok", "on_failed", "item_on_failed", "on_unreachable", "retry"]


@given(st.sampled_from(EVENTS), st.sampled_from(ACTIONS), fuzz.corruptions(RESULT))
def test_any_answer_of_a_module_gives_progress_and_outputs_or_an_error(kind: str, action: str, res: Any) -> None:
    data = {"role": "r", "task": "t", "resolved_action": f"ansible.builtin.{action}", "res": res}
    event = json.loads(json.dumps(events.distil({"event": f"runner_{kind}", "event_data": data}), default=str))
    assert event
    tracker = progress.Tracker(("r",), lambda note: note.text.encode())
    tracker.handle({"event": "task", "role": "r", "task": "t"})
    tracker.handle(event)
    declared = outputs.well_formed(declarations.collect([event]))
    to_struct({"declared": declared.to_json()}).SerializeToString()
    if tracker.failure:
        str(tracker.failure(TARGET, "go on")).encode()
    with allow_our_errors():
        outputs.check_declared("Host", TARGET, declarations.collect([event]), "go on")
        outputs.check_results("Host", TARGET, tracker.results.get("fleet_host") or {}, "go on")
        outputs.remains(tracker.results)


def test_each_reader_ignores_a_line_of_a_bashrc_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reader.read(connect(f"welcome\n{json.dumps(STATE)}\n"), THINGS).keys() == STATE.keys()
    assert owner.release(connect('hello\n{"owner": "", "gone": true}'), "a/b/c") is None
    observation = preflight.read_facts(connect(f"motd\n{json.dumps(after_a_run())}\n"), prod_requirements())
    assert observation.facts["system"] == "ubuntu 24.04"
    assert node._read_facts(connect(f"motd\n{json.dumps(RIGHT['Node']['facts'])}\n")) == RIGHT["Node"]["facts"]

    weights = verify("\n".join(["welcome", *map(json.dumps, ANSWERS)]), monkeypatch)
    assert (weights.files, len(weights.wrong)) == (2, 1)


@pytest.mark.parametrize(
    ("output", "seen"),
    [
        ("", "nothing printed"),
        ("hello", "no JSON: hello"),
        ("[]", "list"),
        ("null", "None"),
        ('{"a": 1e999}', "an infinite number"),
        (f'{{"a": {10**30}}}', "a huge number"),
        ('{"a":' * 50 + "1" + "}" * 50, "it is nested too deep"),
    ],
)
def test_an_unreadable_reply_says_what_it_is(output: str, seen: str) -> None:
    with pytest.raises(reply.Unreadable) as caught:
        reply.read(output, Record({}, open=True))
    assert caught.value.seen == seen


def test_a_reply_s_text_is_plain() -> None:
    assert reply.read('{"a\\u001b": ["\\ud800"]}', Record({}, open=True)) == {"a\\x1b": ["\\ud800"]}


def test_the_error_about_an_unreadable_state_has_the_node_and_the_output() -> None:
    with pytest.raises(errors.DriftUnreadable) as caught:
        reader.read(Connection("Traceback\n", 1, "Traceback\nModuleNotFoundError: no json\n"), THINGS)  # type: ignore[arg-type]
    message = "glm-1: read the managed state: exit code 1: ModuleNotFoundError: no json"
    assert str(caught.value).splitlines()[0] == message


def test_each_fact_of_a_preflight_has_a_form() -> None:
    """answer.py has a form for each fact that on_node_facts.py prints on this machine."""
    arguments: dict[str, Any] = {"paths": {"/": ""}, "addresses": [], "ports": [], "owner": "/nowhere", "source": ""}
    arguments |= {"repositories": [], "loaders": [], "packages": [], "filesystems": [], "record": "/nowhere"}
    text = script.with_call(f"{preflight.script()}\nsources = lambda: []", arguments)
    command = [sys.executable, "-I", "-"]
    facts = json.loads(subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout)
    lacks = sorted(facts.keys() - {*answer.FACTS, "space"})
    assert not lacks, f"no form for the facts {', '.join(lacks)}: add a row to fleet/preflight/answer.py"
    assert answer.facts(arguments).mistake(facts, "") is None
    for name in ("driver", "docker"):
        assert facts[name].keys() == {*answer.FACTS[name].parts}, name  # type: ignore[attr-defined]


def test_a_second_is_enough_for_the_largest_reply() -> None:
    large = json.dumps({f"file /etc/{number}": STATE["file /etc/x"] for number in range(5000)})
    with fuzz.within(1):
        assert not reader.read(connect(large), THINGS)  # none of it was asked for
