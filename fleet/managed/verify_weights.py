"""Verify the weights of a node by sha256, all bytes of them, and the images of its replicas: in one exec, with progress.

Owns what is compared and when a silent node is given up; on_node_verify_weights.py does it on the node. Needs a connection.
Called by `fleet.cli.verify`, for any number of nodes in threads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import errors, ssh, validators
from fleet.ssh import reply
from fleet.ssh.script import script_lines

SCRIPT = Path(__file__).with_name("on_node_verify_weights.py")
# The script tells how far it is every second: after this many seconds without a word the node or its disk hangs.
SILENCE = 60.0
PROGRESS = validators.Record({"done": validators.Whole(), "total": validators.Whole()})
WRONG = validators.Each(validators.Record(dict.fromkeys(("what", "expected", "seen"), validators.Text(lines=True))))
RESULT = validators.Record({"files": validators.Whole(), "bytes": validators.Whole(), "wrong": WRONG})
LINE = validators.Either(
    (PROGRESS, RESULT), "a line of progress or the result: {done, total}, or {files, bytes, wrong}"
)
# A login shell may print before the script does.
BEFORE = 100
NEXT = "find out what python3 prints there; then `fleet verify` again"


@dataclass(frozen=True)
class RecordedWeights:
    """What a node should hold: the manifest's path there and its recorded sha256; by container, its recorded image id."""

    target: ssh.Target
    manifest: str
    recorded: str
    containers: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """How many files were compared, the bytes that they should have, and each thing that differs: {what, expected, seen}."""

    files: int
    bytes: int
    wrong: list[dict[str, str]]


def verify(weights: RecordedWeights, progress: Callable[[int, int], None], silence: float = SILENCE) -> Comparison:
    """Sum every file and compare; `progress` gets bytes done and in all, about every second, and may raise to stop it.

    A file that differs gets the present time on the node, so that a refresh sees it from now on. Raises Unreachable,
    HostKeyMismatch, or CommandFailed when the node says nothing for `silence` seconds, or could not look.
    """
    arguments = {"manifest": weights.manifest, "recorded": weights.recorded, "containers": dict(weights.containers)}
    last: dict[str, Any] = {}
    strange: list[reply.Unreadable] = []
    with ssh.connect(weights.target) as connection:
        for line in script_lines(connection, SCRIPT.read_text(), arguments, silence):
            try:
                last = reply.value(line, LINE)
            except reply.Unreadable as error:
                strange.append(error)
                if last or len(strange) > BEFORE:
                    raise reply.failed(error, weights.target.name, f"verify {weights.manifest}", NEXT) from None
                continue
            if "done" in last:
                progress(last["done"], last["total"])
    if "wrong" not in last:
        raise errors.CommandFailed(
            node=weights.target.name,
            doing=f"verify {weights.manifest}",
            seen=f"it ended before the result{f'; it printed {strange[-1].seen}' if strange else ''}",
            wanted="the sums of all files",
            next="`fleet verify` again; `journalctl -k` there names a process that was killed",
        )
    return Comparison(**last)
