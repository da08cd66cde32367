"""What a node, a server or a log says reaches the terminal as text: its control characters are shown, never obeyed."""

import pytest

from fleet import errors, printable
from fleet.ansible import progress
from fleet.provider import engine
from fleet.ssh import Target
from tests.support.plugin import Engine

CLIPBOARD = "\x1b]52;c;ZXZpbA==\x07"
SHOWN = "\\x1b]52;c;ZXZpbA==\\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain: ünï – 例 ✓", "plain: ünï – 例 ✓"),
        (CLIPBOARD, SHOWN),
        ("a\x9b2Jb", "a\\x9b2Jb"),  # CSI of C1
        ("a\x7fb", "a\\x7fb"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("10 %\r20 %\r\n", "10 %\n20 %\n"),
        ("\u202eoffline", "\\u202eoffline"),  # right to left
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),  # cannot be written as UTF-8
        ("\U000e0041", "\\U000e0041"),  # a tag, which no terminal shows
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable.plain(text) == shown
    printable.plain(text).encode()


def test_a_short_form_is_one_line_of_a_bounded_length() -> None:
    assert printable.short("a\nb\x1b") == "a\\nb\\x1b"
    assert len(printable.short("\x1b" * 10_000_000, 40)) == 40


@pytest.mark.parametrize("part", ["node", "doing", "seen", "wanted", "next"])
def test_every_part_of_an_error_is_filtered(part: str) -> None:
    said = str(errors.FleetError(**{"seen": "x", part: f"a{CLIPBOARD}b"}))
    assert f"a{SHOWN}b" in said
    assert "\x1b" not in said


def test_further_reasons_of_an_error_are_filtered_too() -> None:
    said = str(errors.NotReady(seen="x", others=[errors.FleetError(seen=CLIPBOARD)]))
    assert SHOWN in said and "\x1b" not in said


def test_a_line_of_progress_that_a_poll_printed_is_filtered() -> None:
    notes: list[progress.Note] = []
    tracker = progress.Tracker(("vllm",), notes.append)
    tracker.handle({"event": "task", "role": "vllm", "task": "Wait"})
    tracker.handle({"event": "retry", "role": "vllm", "task": "Wait", "res": {"said": f"load{CLIPBOARD}"}})
    assert [note.text for note in notes] == ["vllm: Wait", f"vllm: load{SHOWN} (0 s)"]


def test_the_words_of_a_failed_task_are_filtered() -> None:
    tracker = progress.Tracker(("vllm",), lambda note: None)
    tracker.handle({"event": "task", "role": "vllm", "task": "Wait"})
    failed = {"event": "failed", "role": "vllm", "action": "x", "item": False, "ignored": False}
    tracker.handle({**failed, "res": {"msg": f"broken{CLIPBOARD}\nwanted: whole\x9b"}})
    assert tracker.failure
    said = str(tracker.failure(Target("glm-1", "192.0.2.1"), "go on"))
    assert f"broken{SHOWN}" in said and "whole\\x9b" in said


def test_whatever_the_provider_says_beside_a_resource_is_filtered() -> None:
    heard = Engine()
    try:
        engine.Engine(heard.address).report("urn", f"probing{CLIPBOARD}")
        assert [line.message for line in heard.lines] == [f"probing{SHOWN}"]
    finally:
        heard.close()
