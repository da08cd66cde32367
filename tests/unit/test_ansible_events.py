"""What a run reports, from the events of real runs (golden/ansible_events/*.jsonl, recorded with ansible-runner 2.4.3, core 2.19.14)."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleet import errors, ssh
from fleet.ansible import declarations, events, progress

GOLDEN = Path(__file__).parent / "golden" / "ansible_events"
NODE = ssh.Target("glm-1", "192.0.2.11")
KILLED = f"{progress.KILLED}: No start of json char found"


def read_events(name: str) -> list[events.Event]:
    """Return the events of one run, as the supervisor sends them."""
    lines = (GOLDEN / f"{name}.events.jsonl").read_text().splitlines()
    return [event for line in lines if (event := events.distil(json.loads(line)))]


def replay(name: str, *roles: str) -> tuple[progress.Tracker, list[progress.Note]]:
    """Return the tracker of one recorded run and the notes it made."""
    notes: list[progress.Note] = []
    tracker = progress.Tracker(roles, notes.append)
    for event in read_events(name):
        tracker.handle(event)
    return tracker, notes


def test_the_events_of_a_run_say_what_it_declares_and_what_it_created() -> None:
    things = declarations.collect(read_events("kinds")).things
    lines = [f"{what}{' (made)' if created else ''}" for what, created in things.items()]
    assert lines == (GOLDEN / "kinds.declared.txt").read_text().splitlines()


def test_a_task_that_hides_its_output_declares_nothing() -> None:
    task_events = [event for event in read_events("kinds") if event.get("task") == "Ensure the key"]
    assert any("censored" in event.get("res", {}) for event in task_events)
    assert declarations.collect(task_events).things == {}


def test_a_secret_s_file_is_ours_though_the_task_that_creates_it_hides_its_output() -> None:
    assert declarations.collect(read_events("kinds")).things["file /etc/kinds/key"]


def test_every_file_of_a_loop_that_hides_its_output_is_ours() -> None:
    def item(task: str, action: str, **result: Any) -> events.Event:
        return {"event": "ok", "task": task, "action": f"ansible.builtin.{action}", "item": True, "res": result}

    paths = ["/etc/a/one.pem", "/etc/a/two.pem"]
    run = [
        {"event": "task", "task": "Write"},
        *(item("Write", "copy", censored="…", changed=True) for _ in paths),
        {"event": "task", "task": "Set the mode"},
        *(item("Set the mode", "file", path=path, state="file", changed=False) for path in paths),
        {"event": "task", "task": "Set another mode"},
        item("Set another mode", "file", path="/etc/a/foreign", state="file", changed=True),
    ]
    assert declarations.collect(run).things == {
        **{f"file {path}": True for path in paths},
        "file /etc/a/foreign": False,
    }


@pytest.mark.parametrize("what", ["file /etc/foreign-kinds", "file /etc/replaced-kinds", "package openssh-server"])
def test_what_existed_before_the_run_is_not_ours_however_much_we_change_it(what: str) -> None:
    assert declarations.collect(read_events("kinds")).things[what] is False


def test_the_data_of_set_stats_is_the_result() -> None:
    tracker, _ = replay("kinds")
    assert tracker.results == {"fleet_kinds": {"text": "hello"}}
    assert tracker.stats["ok"] > tracker.stats["changed"] > 0


def test_a_failed_assertion_reports_the_words_of_its_role() -> None:
    tracker, _ = replay("assert", "demo")
    assert tracker.failure
    error = tracker.failure(NODE, "see .pulumi/logs/demo.log; `pulumi up` goes on where this stopped")
    assert f"{error}\n" == (GOLDEN / "assert.txt").read_text()
    assert isinstance(error, errors.ConvergeFailed)


def test_the_tasks_of_an_included_role_count_as_those_of_the_one_that_includes_it() -> None:
    tracker, notes = replay("assert", "demo")
    assert [note.text for note in notes if "inner" in note.text] == ["demo: Ensure inner work: changed"]
    assert list(tracker.seconds()) == ["demo"]


def test_progress_names_a_task_that_lasts_and_not_one_that_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines: list[str] = []
    tracker = progress.Tracker(["demo"], lambda note: lines.append(note.text))
    for task, seconds in (("first", 0.1), ("short", 0.1), ("long", 7.0)):
        tracker.handle({"event": "task", "role": "demo", "task": task})
        for _ in range(round(seconds * 10)):
            now[0] += 0.1
            tracker.tick()
    assert lines == ["demo: first", "demo: long", "demo: long (5 s)"]


def test_changes_stay_and_the_current_task_is_ephemeral() -> None:
    _, notes = replay("assert", "demo")
    assert {note.text for note in notes if not note.ephemeral} == {"demo: Ensure inner work: changed"} | {
        note.text for note in notes if note.text.endswith(": changed")
    }
    assert progress.Note("demo: Ensure a folder", ephemeral=True) in notes


def test_each_poll_reports_its_last_line_once() -> None:
    _, notes = replay("assert", "demo")
    percentages = [note.text.split(" (")[0] for note in notes if "%" in note.text]
    assert percentages == ["demo: 10 %", "demo: 20 %", "demo: 30 %"]


@pytest.mark.parametrize(
    ("res", "message"),
    [
        ({"msg": "no such file"}, "no such file"),
        ({"msg": "non-zero return code", "rc": 3, "stderr": "out of space"}, "exit code 3\nout of space"),
        ({"msg": "non-zero return code", "rc": 1, "stdout": "bad"}, "exit code 1\nbad"),
        ({"censored": "…"}, "failed; what it said is hidden, for it handles a secret"),
        ({}, "failed without a word"),
        (
            {"msg": KILLED, "module_stderr": "Traceback …\nNo such file: a.zip", "rc": 1},
            "its module ended without an answer\nTraceback …\nNo such file: a.zip",
        ),
        ({"msg": KILLED, "rc": 137}, "its module ended without an answer"),
    ],
)
def test_a_failed_task_says_why(res: dict[str, Any], message: str) -> None:
    assert progress.task_message(res) == message


def test_the_message_cuts_a_long_output_to_its_first_and_last_lines() -> None:
    lines = progress.task_message({"rc": 1, "stderr": "\n".join(f"line {n}" for n in range(100))}).splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("exit code 1", "line 99", progress.LINES + 1)


def test_a_message_of_several_lines_keeps_each_part() -> None:
    assert progress.message_parts("it broke\n  at once\nwanted: that it works\n  always\nnext: mend it") == (
        "it broke\n  at once",
        "that it works\nalways",
        "mend it",
    )


def fail(*failures: tuple[str, str, str]) -> progress.Tracker:
    """Return the tracker of a run whose tasks fail, one after the other: task, module, message."""
    tracker = progress.Tracker(["docker"], lambda _: None)
    for task, action, message in failures:
        place = {"role": "docker", "task": task}
        tracker.handle({"event": "task", **place})
        event = {"event": "failed", **place, "action": f"ansible.builtin.{action}", "item": False, "ignored": False}
        tracker.handle({**event, "res": {"msg": message}})
    return tracker


@pytest.mark.parametrize(
    ("first", "doing", "seen"),
    [
        (KILLED, "docker: Ensure the options", "its module ended without an answer"),
        ("failed to validate", "docker: Report why", "the Docker daemon would refuse them"),
    ],
)
def test_a_role_explains_what_its_module_answers_but_not_that_it_was_killed(first: str, doing: str, seen: str) -> None:
    report = ("Report why", "fail", "the Docker daemon would refuse them")
    tracker = fail(("Ensure the options", "copy", first), report)
    assert tracker.failure
    failure = tracker.failure(NODE, "`pulumi up` goes on")
    assert (failure.doing, failure.seen) == (doing, seen)


def test_a_reboot_reports_itself_how_it_ended() -> None:
    tracker = fail(("Reboot the host", "reboot", "no"), ("Report why it does not come back", "fail", "no"))
    assert tracker.seconds_since_failed_task is None
    assert fail(("Ensure the options", "copy", "no")).seconds_since_failed_task is not None


def test_an_ignored_failure_does_not_count() -> None:
    tracker = progress.Tracker([], lambda _: None)
    tracker.handle({"event": "failed", "role": "", "task": "x", "item": False, "ignored": True, "res": {"msg": "no"}})
    assert tracker.failure is None


def test_the_items_of_a_loop_say_why_it_failed() -> None:
    tracker = progress.Tracker(["docker"], lambda _: None)
    tracker.handle({"event": "task", "role": "docker", "task": "Ensure files"})
    place = {"event": "failed", "role": "docker", "task": "Ensure files", "ignored": False}
    tracker.handle({**place, "item": True, "res": {"msg": "no space left on device"}})
    tracker.handle({**place, "item": False, "res": {"msg": "One or more items failed", "loop": 2}})
    assert tracker.failure
    assert tracker.failure(NODE, "go on").seen == "no space left on device"


def test_an_event_keeps_of_a_module_s_answer_what_a_message_needs() -> None:
    """The node chooses the size: paths, names and texts of a megabyte end at a few thousand characters."""
    long, many = "x" * 1_000_000, ["a"] * 1_000_000
    res = {"msg": long, "path": long, "stdout": long, "invocation": {"module_args": {"name": many, "path": long}}}
    raw = {"event": "runner_on_failed", "event_data": {"res": res, "resolved_action": "ansible.builtin.apt"}}
    assert len(json.dumps(events.distil(raw))) < 50_000


def test_only_set_stats_gives_results_and_they_add_up_where_they_aggregate() -> None:
    def event_of(action: str, data: dict[str, Any], aggregate: bool) -> events.Event | None:
        res = {"ansible_stats": {"data": data, "aggregate": aggregate, "per_host": False}}
        return events.distil({"event": "runner_on_ok", "event_data": {"res": res, "resolved_action": action}})

    tracker = progress.Tracker((), lambda note: None)
    for event in (
        event_of("ansible.builtin.set_stats", {"fleet_host": {"gpus": 8}}, False),
        event_of("ansible.builtin.command", {"fleet_host": {"gpus": 0}, "fleet_evil": 1}, True),
        event_of("ansible.builtin.set_stats", {"fleet_host": {"engine": "ab"}}, True),
    ):
        assert event
        tracker.handle(event)
    assert tracker.results == {"fleet_host": {"gpus": 8, "engine": "ab"}}
