"""Whatever a node prints or its modules answer ends in an error of ours or in a result, within a second: never a traceback, never a lost state."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import errors, preflight, ssh
from fleet.ansible import connection_loss, declarations, events, progress
from fleet.cli import verify as fleet_verify
from fleet.impact import effects
from fleet.managed import differences, managed_set, owner, reader, revert, verify_weights
from fleet.preflight import answer
from fleet.provider import node, outputs
from fleet.provider.properties import to_struct
from fleet.ssh import reply, script
from fleet.validators import Record
from tests.support import fuzz
from tests.support.preflight_machines import after_a_run, wanted
from tests.support.pulumi_project import ROOT
from tests.support.right_outputs import RIGHT

TARGET = ssh.Target("glm-1", "192.0.2.1")


class Connection:
    """A connection to a node that prints this."""

    def __init__(self, stdout: str, rc: int = 0, stderr: str = "") -> None:
        self.target, self._said = TARGET, ssh.Result(rc, stdout, stderr)

    def run(self, *_: Any, **__: Any) -> ssh.Result:
        return self._said

    def lines(self, *_: Any, **__: Any) -> Iterator[str]:
        yield from self._said.stdout.splitlines(keepends=True)


def reads(stdout: str) -> Any:
    return Connection(stdout)


@contextlib.contextmanager
def ours() -> Iterator[None]:
    """Let errors of ours pass, whose message must be text that a terminal shows."""
    caught: list[errors.FleetError] = []
    try:
        with fuzz.within(1):
            yield
    except errors.FleetError as error:
        caught.append(error)
    for one in caught:
        str(one).encode()
        assert "\x1b" not in str(one)


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


@fuzz.FUZZ
@given(fuzz.printed(STATE), fuzz.printed(STATE))
def test_a_read_of_the_managed_state(first: str, second: str) -> None:
    with ours():
        expected, seen = (reader.read(reads(said), THINGS) for said in (first, second))
        found = differences.drift(expected, seen)
        drifted = revert.Drifted({one.thing for one in found}, expected, seen)
        assert isinstance(drifted.variables, dict)
        drifted.left(seen)
        state = {
            "vars": {},
            "roles": {"docker": "1  tasks/main.yml"},
            "managed": {"declared": {}, "expected": expected},
        }
        effects.predict([state], state, found, ROOT / "roles")
        to_struct({"expected": expected, "drift": [one.to_json() for one in found]}).SerializeToString()


@fuzz.FUZZ
@given(fuzz.printed({"owner": json.dumps({"id": "a/b/c", "who": "x", "since": "y"}), "gone": False}))
def test_the_mark_of_a_machine(said: str) -> None:
    with ours():
        owner.claim(reads(said), "a/b/c")
    with ours():
        owner.release(reads(said), "a/b/c")


@fuzz.FUZZ
@given(st.one_of(fuzz.ANYTHING.map(json.dumps), fuzz.WRECKS, st.text(max_size=50)))
def test_the_text_of_a_mark(text: str) -> None:
    found = owner.Owner.read(text)
    if found:
        found.is_of("a/b/c")
        str(errors.NotReady(**owner.refusal(found, TARGET, "a/b/c")))


@fuzz.FUZZ
@given(fuzz.printed(after_a_run()))
def test_a_preflight(said: str) -> None:
    with ours():
        want = wanted()
        for result in preflight.check(preflight.read_facts(reads(said), want), want):
            "".join((result.seen, result.wanted, result.next)).encode()


VERIFIED = [{"done": 1, "total": 2}, {"files": 2, "bytes": 2, "wrong": [{"what": "a", "expected": "b", "seen": "c"}]}]


@fuzz.FUZZ
@given(st.tuples(*(fuzz.printed(one) for one in VERIFIED)).map("\n".join))
def test_a_verification(said: str) -> None:
    with pytest.MonkeyPatch.context() as patch, ours():
        patch.setattr(ssh, "connect", lambda target: contextlib.nullcontext(reads(said)))
        found = verify_weights.verify(
            verify_weights.RecordedWeights(TARGET, "/srv/m/manifest.json", "ab", {}), lambda done, total: None
        )
        result = fleet_verify.WeightsReport("glm-1", "/srv/m", found.files, found.bytes, found.wrong)
        "".join([fleet_verify.as_table([result]), *fleet_verify.problems([result], "s")]).encode()


@fuzz.FUZZ
@given(
    st.one_of(
        fuzz.printed("running"), st.sampled_from(["running\n1\n1e999 1", "stopping", f"x\n{'9' * 5000}\n1", "x\n²\n1"])
    )
)
def test_the_question_why_a_node_was_lost(said: str) -> None:
    assert isinstance(connection_loss._went_down(said, 10.0), str)


@fuzz.FUZZ
@given(fuzz.printed(RIGHT["Node"]["facts"]))
def test_the_facts_of_a_node(said: str) -> None:
    with ours():
        to_struct({"facts": node._read_facts(reads(said))}).SerializeToString()


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
EVENTS = [
    "runner_on_ok",
    "runner_item_on_ok",
    "runner_on_failed",
    "runner_item_on_failed",
    "runner_on_unreachable",
    "runner_retry",
]


@fuzz.FUZZ
@given(st.sampled_from(EVENTS), st.sampled_from(ACTIONS), fuzz.spoiled(RESULT))
def test_the_answer_of_a_module(kind: str, action: str, res: Any) -> None:
    raw = {
        "event": kind,
        "event_data": {"role": "r", "task": "t", "resolved_action": f"ansible.builtin.{action}", "res": res},
    }
    event = json.loads(json.dumps(events.distil(raw), default=str))
    assert event
    tracker = progress.Tracker(("r",), lambda note: note.text.encode())
    tracker.handle({"event": "task", "role": "r", "task": "t"})
    tracker.handle(event)
    declared = outputs.well_formed(declarations.collect([event]))
    to_struct({"declared": declared.to_json()}).SerializeToString()
    if tracker.failure:
        str(tracker.failure(TARGET, "go on")).encode()
    with ours():
        outputs.check_declared("Host", TARGET, declarations.collect([event]), "go on")
        outputs.check_results("Host", TARGET, tracker.results.get("fleet_host") or {}, "go on")
        outputs.remains(tracker.results)


def test_a_line_of_a_bashrc_before_the_answer_is_passed_over() -> None:
    assert reader.read(reads(f"welcome\n{json.dumps(STATE)}\n"), THINGS).keys() == STATE.keys()
    assert owner.release(reads('hello\n{"owner": "", "gone": true}'), "a/b/c") is None
    observation = preflight.read_facts(reads(f"motd\n{json.dumps(after_a_run())}\n"), wanted())
    assert observation.facts["system"] == "ubuntu 24.04"
    assert node._read_facts(reads(f"motd\n{json.dumps(RIGHT['Node']['facts'])}\n")) == RIGHT["Node"]["facts"]


def test_a_line_before_the_answer_does_not_end_a_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "\n".join(["welcome", *map(json.dumps, VERIFIED)])
    monkeypatch.setattr(ssh, "connect", lambda target: contextlib.nullcontext(reads(said)))
    found = verify_weights.verify(
        verify_weights.RecordedWeights(TARGET, "/srv/m/manifest.json", "ab", {}), lambda done, total: None
    )
    assert (found.files, len(found.wrong)) == (2, 1)


@pytest.mark.parametrize(
    ("said", "seen"),
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
def test_a_reply_that_is_none_is_said_to_be_what_it_is(said: str, seen: str) -> None:
    with pytest.raises(reply.Unreadable) as caught:
        reply.read(said, Record({}, open=True))
    assert caught.value.seen == seen


def test_a_reply_s_text_is_plain() -> None:
    assert reply.read('{"a\\u001b": ["\\ud800"]}', Record({}, open=True)) == {"a\\x1b": ["\\ud800"]}


def test_a_state_that_cannot_be_read_is_told_with_the_node_and_what_was_printed() -> None:
    with pytest.raises(errors.DriftUnreadable) as caught:
        reader.read(Connection("Traceback\n", 1, "Traceback\nModuleNotFoundError: no json\n"), THINGS)  # type: ignore[arg-type]
    assert (
        str(caught.value).splitlines()[0] == "glm-1: read the managed state: exit code 1: ModuleNotFoundError: no json"
    )


def test_each_fact_of_a_preflight_has_a_form() -> None:
    """What on_node_facts.py prints on this machine: each of its facts stands in answer.py."""
    asked: dict[str, Any] = {"paths": {"/": ""}, "addresses": [], "ports": [], "owner": "/nowhere", "source": ""}
    asked |= {"repositories": [], "loaders": [], "packages": [], "filesystems": [], "record": "/nowhere"}
    text = script.with_call(f"{preflight.script()}\nsources = lambda: []", asked)
    done = subprocess.run(
        [sys.executable, "-I", "-"], input=text, capture_output=True, text=True, check=True, timeout=60
    )
    facts = json.loads(done.stdout)
    lacks = sorted(facts.keys() - {*answer.FACTS, "space"})
    assert not lacks, f"no form for the facts {', '.join(lacks)}: add a row to fleet/preflight/answer.py"
    assert answer.facts(asked).mistake(facts, "") is None
    for name in ("driver", "docker"):
        assert facts[name].keys() == {*answer.FACTS[name].parts}, name  # type: ignore[attr-defined]


def test_a_second_is_enough_for_the_largest_reply() -> None:
    large = json.dumps({f"file /etc/{number}": STATE["file /etc/x"] for number in range(5000)})
    with fuzz.within(1):
        assert not reader.read(reads(large), THINGS)  # none of it was asked for
