"""Verify the sha256 of all weights of a node, and the images of its replicas, in one exec with progress.

Needs a connection; on_node_verify_weights.py does the work on the node. Called by fleet.cli.verify, in a thread for each node.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import errors, ssh, validators
from fleet.ssh import reply
from fleet.ssh.script import script_lines

SCRIPT = Path(__file__).with_name("on_node_verify_weights.py")
# Seconds without a line before we give up: the script prints its progress each second, unless the node or its disk hangs.
SILENCE = 60.0
PROGRESS = validators.Record({"done": validators.Whole(), "total": validators.Whole()})
WRONG = validators.Each(validators.Record(dict.fromkeys(("what", "expected", "seen"), validators.Text(lines=True))))
RESULT = validators.Record({"files": validators.Whole(), "bytes": validators.Whole(), "wrong": WRONG})
LINE = validators.Either(
    (PROGRESS, RESULT), "a line of progress or the result: {done, total}, or {files, bytes, wrong}"
)
# Lines that a login shell may print before the script does.
BEFORE = 100
NEXT = "find out what python3 prints there; then `fleet verify` again"


@dataclass(frozen=True)
class RecordedWeights:
    """The expected files of a node: path and sha256 of the manifest; and its image ID by container."""

    target: ssh.Target
    manifest: str
    recorded: str
    containers: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """The number of files, their bytes according to the manifest, and what differs: {what, expected, seen}."""

    files: int
    bytes: int
    wrong: list[dict[str, str]]


def verify(weights: RecordedWeights, progress: Callable[[int, int], None], silence: float = SILENCE) -> Comparison:
    """Compare every file; `progress` gets the bytes done and in total about every second, and may raise to stop.

    The script sets the time of a file that differs, so that the next refresh reports it as drift. Raises Unreachable,
    HostKeyMismatch, or CommandFailed if the script fails or prints nothing for `silence` seconds.
    """
    arguments = {"manifest": weights.manifest, "recorded": weights.recorded, "containers": dict(weights.containers)}
    last: dict[str, Any] = {}
    unreadable: list[reply.Unreadable] = []
    with ssh.connect(weights.target) as connection:
        for line in script_lines(connection, SCRIPT.read_text(), arguments, silence):
            try:
                last = reply.value(line, LINE)
            except reply.Unreadable as error:
                unreadable.append(error)
                if last or len(unreadable) > BEFORE:
                    raise reply.command_failed(error, weights.target.name, f"verify {weights.manifest}", NEXT) from None
                continue
            if "done" in last:
                progress(last["done"], last["total"])
    if "wrong" not in last:
        raise errors.CommandFailed(
            node=weights.target.name,
            doing=f"verify {weights.manifest}",
            seen=f"it ended before the result{f'; it printed {unreadable[-1].seen}' if unreadable else ''}",
            wanted="the sums of all files",
            next="`fleet verify` again; `journalctl -k` there names a process that was killed",
        )
    return Comparison(**last)
