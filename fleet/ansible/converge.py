"""Run a playbook on one node: take a job, report progress as notes, return an outcome or raise one error; cancel within 10 s.

Owns the supervisor process and the temporary directory of a run. Needs fleet.ansible.supervisor, which needs Ansible. Called by
`fleet.provider` for each of its Ansible resources and by `fleet.cli.accept`; one call is one run, threads may call side by side.
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
# Seconds that a cancelled supervisor has to clean up before it is killed.
PATIENCE = 9.0
# Characters of one event. events.py bounds everything that a node sends, except the results of a run.
LONGEST = 64 << 20
# Environment variables that an Ansible run must not see: Pulumi's secrets, and settings of the user's shell.
HIDDEN = ("PULUMI_", "ANSIBLE_", "RUNNER_", "AWX_", "PYTHON")


@dataclass(frozen=True)
class Job:
    """One run: `variables` and `data` become host variables, `secrets` the environment of Ansible; `timeout` in seconds.

    Ansible evaluates expressions in `variables`, which the user wrote. Everything that a node sent (a result, recorded state) is `data`, which
    Ansible never evaluates.

    `roles` are the playbook's own roles: time and messages of a role that they include count as theirs. `next_step` says what the user does
    after a failure.
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
    next_step: str = "`pulumi up` goes on where this stopped"


@dataclass(frozen=True)
class Outcome:
    """Result of a successful run: the data of set_stats, what it declared, counts of tasks, seconds by role."""

    results: dict[str, Any]
    declared: managed_set.Declared
    changed: int
    ok: int
    seconds: dict[str, float]


def converge(job: Job, note: Callable[[Note], None], cancelled: threading.Event) -> Outcome:
    """Run the job's playbook on its node.

    Raises ConvergeFailed, Unreachable, HostKeyMismatch or Cancelled; their `partial` holds what the run declared before it failed.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    tracker = progress.Tracker(job.roles, note)
    received_events: list[events.Event] = []
    end: events.Event = {}
    started = time.monotonic()
    late = False
    with contextlib.closing(_supervise(job)) as lines:
        for event in lines:
            if event is None:
                tracker.tick()
            elif event["event"] == "end":
                end = event
            else:
                received_events.append(event)
                tracker.handle(event)
            if cancelled.is_set() or (late := late or time.monotonic() - started > job.timeout):
                lines.close_stdin()
    declared = declarations.collect(received_events)
    failure = _failure(job, tracker, end, cancelled.is_set(), late)
    _close_log(job.log, tracker, time.monotonic() - started, failure)
    if failure:
        failure.partial = declared.to_json()
        raise failure
    stats = tracker.stats
    return Outcome(tracker.results, declared, stats["changed"], stats["ok"], tracker.seconds())


class _Lines:
    """Events of the supervisor as they arrive, None while it is silent; `close` ends it and the processes that it left."""

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
        """Cancel the run; the supervisor has PATIENCE seconds from the first call."""
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
                break  # without an `end` event the caller reports a failure
            self._queue.put(line)
        self._queue.put(None)


def _supervise(job: Job) -> _Lines:
    """Start the supervisor and write the job to its stdin, the only way that secrets take."""
    folder = run_directory.create()
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
                start_new_session=True,  # ^C in a terminal must reach the Pulumi engine alone, which then cancels us
            )
    except OSError:
        shutil.rmtree(folder)
        raise
    lines = _Lines(process, folder)
    with contextlib.suppress(BrokenPipeError):  # it died at once: without an `end` event the caller reports a failure
        assert process.stdin
        process.stdin.write(json.dumps(_job(job, folder)) + "\n")
        process.stdin.flush()
    return lines


def environment(folder: Path, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run: this process's `own`, without what HIDDEN names."""
    allowed = {name: value for name, value in own.items() if not name.startswith(HIDDEN)}
    return allowed | {
        run_directory.MARK: str(folder),
        # ansible-runner looks for ansible-playbook on PATH: it must find the one beside this Python.
        "PATH": f"{Path(sys.executable).parent}:{allowed.get('PATH', '')}",
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
    job: Job, tracker: progress.Tracker, end: events.Event, cancelled: bool, late: bool
) -> errors.FleetError | None:
    """Return the error of a run that ended this way, None for success."""
    node, next_step = job.target.name, f"see {job.log}; {job.next_step}"
    if end.get("status") == "successful" and tracker.stats.get("hosts"):
        return None
    if cancelled:
        return errors.Cancelled(node=node, doing=tracker.current, seen="cancelled", next=next_step)
    if late:
        return errors.ConvergeFailed(
            node=node, doing=tracker.current, seen=f"no end within {job.timeout:.0f} s", next=next_step
        )
    if tracker.failure:
        failure, seconds = tracker.failure(job.target, next_step), tracker.seconds_since_failed_task
        return failure if seconds is None else connection_loss.explain(job.target, failure, seconds, next_step)
    tail = list(end.get("tail", ()))
    error_lines = [line for line in tail if line.startswith(("ERROR", "[ERROR]"))] or tail[-4:]
    seen = "\n".join(error_lines) or "the run's process ended without a word"
    return errors.ConvergeFailed(node=node, doing=f"run {job.playbook.name}", seen=seen, next=next_step)


@contextlib.contextmanager
def _new_log(path: Path) -> Iterator[TextIO]:
    """Replace the log by an empty one that only its owner may read, and open it."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "a") as log:
        yield log


def _close_log(path: Path, tracker: progress.Tracker, seconds: float, failure: errors.FleetError | None) -> None:
    counts = ", ".join(f"{key} {tracker.stats[key]}" for key in ("ok", "changed") if key in tracker.stats)
    with path.open("a") as log:
        log.write(f"\n{failure or 'went well'}\n{counts or 'no counts'}, {seconds:.1f} s\n")
