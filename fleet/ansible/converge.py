"""Run a playbook on one node: job in, progress by notes, outcome or one error in words out; a cancel within 10 s.

Owns the supervisor process and the private folder of a run. Needs fleet.ansible.supervisor (which needs Ansible; nothing
here does). Called by `fleet.provider` for each of its Ansible resources; at most one run a call, any number in threads.
"""

import contextlib
import dataclasses
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from fleet import errors, ssh
from fleet.ansible import connection_loss, declarations, events, progress, run_directory
from fleet.ansible.progress import Note
from fleet.managed import managed_set

ROOT = Path(__file__).resolve().parents[2]
# Seconds that a cancelled supervisor has for leaving nothing behind, before it is killed.
PATIENCE = 9.0
# Characters of one event: all that a node makes of it is bounded in events.py, but for the results of a run.
LONGEST = 64 << 20
# What an Ansible run has no business to know, or must not take from the user's shell.
HIDDEN = ("PULUMI_", "ANSIBLE_", "RUNNER_", "AWX_", "PYTHON")


@dataclass(frozen=True)
class Job:
    """One run: `variables` and `data` become host variables, `secrets` the environment of Ansible; `timeout` in seconds.

    Ansible evaluates expressions in `variables`: these are the user's own. What a node has ever said (a result, the state) is `data`, which it
    takes as it is.

    `roles` are the playbook's own roles: time and messages of a role that these include count as theirs. `goes_on` tells what to do after
    a failure.
    """

    target: ssh.Target
    playbook: Path
    variables: Mapping[str, Any]
    log: Path
    data: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    check: bool = False
    timeout: float = 7200
    goes_on: str = "`pulumi up` goes on where this stopped"


@dataclass(frozen=True)
class Outcome:
    """What a run that went well gave: the data of set_stats, what it declared, counts of tasks, seconds by role."""

    results: dict[str, Any]
    declared: managed_set.Declared
    changed: int
    ok: int
    seconds: dict[str, float]


def converge(job: Job, note: Callable[[Note], None], cancelled: threading.Event) -> Outcome:
    """Run the job's playbook on its node.

    Raises ConvergeFailed, Unreachable, HostKeyMismatch or Cancelled; their `partial` says what was declared until then.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    story = progress.Story(job.roles, note)
    seen: list[events.Event] = []
    end: events.Event = {}
    started = time.monotonic()
    late = False
    with contextlib.closing(_supervise(job)) as lines:
        for event in lines:
            if event is None:
                story.tick()
            elif event["event"] == "end":
                end = event
            else:
                seen.append(event)
                story.hear(event)
            if cancelled.is_set() or (late := late or time.monotonic() - started > job.timeout):
                lines.close_stdin()
    declared = declarations.collect(seen)
    failure = _failure(job, story, end, cancelled.is_set(), late)
    _close_log(job.log, story, time.monotonic() - started, failure)
    if failure:
        failure.partial = declared.to_json()
        raise failure
    stats = story.stats
    return Outcome(story.results, declared, stats["changed"], stats["ok"], story.seconds())


class _Lines:
    """The supervisor's events as they come, None while it is silent; closing ends it and whatever it left."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process, self._folder = process, folder
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._deadline: float | None = None
        self._reader = threading.Thread(target=self._read, name="events", daemon=True)
        self._reader.start()

    def __iter__(self) -> Iterator[events.Event | None]:
        while self._deadline is None or time.monotonic() < self._deadline:
            try:
                line = self._queue.get(timeout=0.2)
            except queue.Empty:
                yield None
                continue
            if line is None:
                return
            yield json.loads(line)

    def close_stdin(self) -> None:
        """Cancel the run: it has PATIENCE seconds from the first call."""
        if self._deadline is None and self._process.stdin:
            self._deadline = time.monotonic() + PATIENCE
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def close(self) -> None:
        self.close_stdin()
        left = max(0.1, (self._deadline or 0) - time.monotonic())
        try:
            self._process.wait(timeout=left)
        except subprocess.TimeoutExpired:
            self._process.kill()
        run_directory.sweep(self._folder, patience=0.2)
        self._process.wait()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self) -> None:
        while self._process.stdout and (line := self._process.stdout.readline(LONGEST)):
            if len(line) >= LONGEST:
                break  # then its `end` is missing, which the caller reports
            self._queue.put(line)
        self._queue.put(None)


def _supervise(job: Job) -> _Lines:
    """Start the supervisor with the job on its stdin; secrets are nowhere else."""
    folder = run_directory.folder()
    try:
        with _new_log(job.log) as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fleet.ansible.supervisor"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(folder, os.environ),
                cwd=folder,
                text=True,
                start_new_session=True,  # ^C in a terminal is for the engine, which then cancels us in order
            )
    except OSError:
        shutil.rmtree(folder)
        raise
    lines = _Lines(process, folder)
    with contextlib.suppress(
        BrokenPipeError
    ):  # it died at once: then its `end` is missing, which the caller reports below
        assert process.stdin
        process.stdin.write(json.dumps(_job(job, folder)) + "\n")
        process.stdin.flush()
    return lines


def environment(folder: Path, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run: this process's own, less what HIDDEN names."""
    kept = {name: value for name, value in ours.items() if not name.startswith(HIDDEN)}
    return kept | {
        run_directory.MARK: str(folder),
        # ansible-playbook is looked for on PATH; it is the one beside this Python.
        "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _job(job: Job, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "root": str(job.playbook.resolve().parents[1]),
        "target": dataclasses.asdict(job.target),
        "playbook": str(job.playbook.resolve()),
        "variables": dict(job.variables),
        "data": dict(job.data),
        "secrets": dict(job.secrets),
        "log": str(job.log.resolve()),
        "check": job.check,
    }


def _failure(
    job: Job, story: progress.Story, end: events.Event, cancelled: bool, late: bool
) -> errors.FleetError | None:
    """Return the error that this end of a run means, None when it went well."""
    node, goes_on = job.target.name, f"see {job.log}; {job.goes_on}"
    if end.get("status") == "successful" and story.stats.get("hosts"):
        return None
    if cancelled:
        return errors.Cancelled(node=node, doing=story.current, seen="cancelled", next=goes_on)
    if late:
        return errors.ConvergeFailed(
            node=node, doing=story.current, seen=f"no end within {job.timeout:.0f} s", next=goes_on
        )
    if story.failure:
        failure, seconds = story.failure(job.target, goes_on), story.unexplained
        return failure if seconds is None else connection_loss.why(job.target, failure, seconds, goes_on)
    tail = list(end.get("tail", ()))
    said = [line for line in tail if line.startswith(("ERROR", "[ERROR]"))] or tail[-4:]
    seen = "\n".join(said) or "the run's process ended without a word"
    return errors.ConvergeFailed(node=node, doing=f"run {job.playbook.name}", seen=seen, next=goes_on)


@contextlib.contextmanager
def _new_log(path: Path) -> Iterator[TextIO]:
    """Open the log anew; only its owner may read it."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "a") as log:
        yield log


def _close_log(path: Path, story: progress.Story, seconds: float, failure: errors.FleetError | None) -> None:
    counts = ", ".join(f"{key} {story.stats[key]}" for key in ("ok", "changed") if key in story.stats)
    with path.open("a") as log:
        log.write(f"\n{failure or 'went well'}\n{counts or 'no counts'}, {seconds:.1f} s\n")
