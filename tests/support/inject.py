"""Injects a fault into a stack that is up, by a row of the table: the fault, the run, the message, the repair, the next run.

Of a fault of the endpoint clients ask meanwhile, and each request that they lose is one that the row names.

Needs a Road whose stack is up. Called by tests/faults and tests/e2e. The measured seconds go to tests.support.records.
"""

import contextlib
import functools
import itertools
import pathlib
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from lab import site
from tests.support import records
from tests.support.e2e import NODES, UP, Road
from tests.support.environment import expect_failure, expect_success
from tests.support.fault_table import Commands, Fault, Variables

_numbers = itertools.count(2001)


# Successes of clients before a fault, and after the next `up`; the seconds that they may take.
ASKS, ANSWERED = 4, 120


def cause(road: Road, row: Fault) -> None:
    """Cause the fault of a row, require what the row says of it, and record the seconds. Also after a failure the stack converges."""
    fault = Injection(road, row)
    fault.prepare()
    with fault.clients():
        try:
            fault.inject()
            fault.run()
            fault.judge()
        finally:
            fault.repair()
            fault.converge()
    fault.record()


class Injection:
    """One row of the table, step by step; each step raises an AssertionError with the run's output where the row says otherwise."""

    def __init__(self, road: Road, row: Fault) -> None:
        names = {
            "lab": road.lab,
            "n": str(next(_numbers)),
            "revision": site.revision(site.CHECKPOINT),
            "untrained": site.untrained_revision(),
            **_untrained(),
        }
        self.road, self.row, self.fault = road, row, Fault(**_fill(row.model_dump(), names))
        self.rc, self.seconds, self.converged, self.by_hand = 0, 0.0, 0.0, ""
        self._logs = road.home / ".pulumi" / "logs"
        self._lines: list[str] = []
        self._lost: dict[str, float] = {}

    @property
    def text(self) -> str:
        """The output of the run and of the fault's own commands."""
        return "".join(self._lines) + self.by_hand

    def prepare(self) -> None:
        """Give the run something to do, and run what the row needs before it."""
        configure(self.road, self.fault.set)
        run_commands(self.road, self.fault.prepare)

    @contextlib.contextmanager
    def clients(self) -> Iterator[None]:
        """Have clients of the endpoint ask from before the fault until the next `up` has converged, if the row says what they see."""
        if not self.row.client:
            yield
            return
        with tempfile.TemporaryDirectory() as folder:
            clients = self.road.clients(pathlib.Path(folder), tokens=self.row.tokens)
            with clients:
                clients.wait_for(ASKS, ANSWERED)
                yield
                clients.wait_for(ASKS, ANSWERED)
            sums = clients.end()
        print(sums)
        other = [text for text in sums.failures if not any(is_like(words, text) for words in self.row.loses)]
        assert not other, f"clients lost what the row's `loses` does not name, as {other[0]!r}: {sums}"
        assert sums.longest_gap <= self.row.gap, f"no answer for more than {self.row.gap:g} s: {sums}"
        self._lost = {"requests": sums.requests, "lost": len(sums.failures), "gap": sums.longest_gap}

    def inject(self) -> None:
        """Break what the row breaks before the run; a fault with `when` waits for `run`."""
        if not self.fault.when:
            self.by_hand = run_commands(self.road, self.fault.breaks)

    def run(self) -> None:
        """Run the row's command to its end. `seconds`: from the fault, or from the start of the run, to the message."""
        self._before = set(self._logs.glob("*"))
        self._since = time.monotonic()
        process = self.road.start(*_command(self.road, self.fault))
        reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reader.start()
        if self.fault.when:
            while not self._is_time():
                assert process.poll() is None, f"{self.fault.when!r} is not in {self.text}"
                time.sleep(0.05)
            self._since = time.monotonic()
            self.by_hand = run_commands(self.road, self.fault.breaks)
            if has_lines(self.fault.message, self.by_hand):  # of the fault's own command, as for a second operator
                self.seconds = time.monotonic() - self._since
        self.rc = process.wait(UP)
        reader.join()
        self.seconds = self.seconds or time.monotonic() - self._since

    def judge(self) -> None:
        """Require one message, the row's, and that the other node has finished its part."""
        fault, text = self.fault, self.text
        assert (self.rc == 0) == (fault.ends == "well"), text
        assert has_lines(fault.message, text), f"{fault.message}\nis not in\n{text}"
        assert "Traceback" not in text, text
        # Lines that are indented further quote a program within a message.
        # A node that is held back has no message of its own: its line names the one that failed.
        messages = re.findall(
            r"(?m)^ {4}error: (?!(?:update|preview) failed$|\S+: held back: )", text.partition("\nDiagnostics:\n")[2]
        )
        assert len(messages) <= 1, f"{len(messages)} messages for one fault:\n{text}"
        if fault.other:
            other = "glm-1" if fault.node == "glm-2" else "glm-2"
            logs = [path.read_text() for path in self._new(fault.other.lower(), other)]
            finished = bool(logs) and all("\nwent well\n" in log for log in logs)
            assert finished, f"{fault.other} on {other} did not finish:\n{text}"
        run_commands(self.road, fault.holds)
        if fault.again:
            again = expect_failure(self.road.run(*_command(self.road, fault), timeout=UP))
            assert has_lines(fault.again, again), again

    def repair(self) -> None:
        """Do what the message asks for, and restore the stack file."""
        run_commands(self.road, self.fault.repair)
        machines = {name: values for name, values in self.fault.set.items() if name != "all"}
        configure(self.road, {name: dict.fromkeys(values) for name, values in machines.items()})
        configure(self.road, self.fault.correct)

    def converge(self) -> None:
        """Require that the next `up` converges. `converged`: its seconds."""
        self.converged = converges(self.road, *(["--refresh"] if "--refresh" in self.fault.run else []))

    def record(self) -> None:
        """Run the row's last checks, and record the seconds to message and convergence."""
        run_commands(self.road, self.fault.after)
        figures = {"message": round(self.seconds, 1), "convergence": round(self.converged, 1), **self._lost}
        records.add("faults", {self.row.fault: self.row.model_dump()}, **figures)

    def _new(self, kind: str, node: str) -> list[Any]:
        return sorted(set(self._logs.glob(f"*-{kind}-{node}-*.log")) - self._before)

    def _is_time(self) -> bool:
        logs = (path.read_text() for path in self._new("*", self.fault.node))
        moment = re.compile(re.escape(self.fault.when).replace(r"\*", ".*"))
        return any(moment.search(text) for text in ("".join(self._lines), *logs))

    def _read(self, output: Iterable[str]) -> None:
        first = self.fault.message.strip().splitlines()[0]
        for line in output:
            self._lines.append(line)
            if not self.seconds and has_lines(first, line):
                self.seconds = time.monotonic() - self._since


def has_lines(words: str, text: str) -> bool:
    """Return whether the text has these lines in a row, at any indent; `*` is any text of a line, a line `…` any lines or none."""
    lines = [re.escape(line.strip()).replace(r"\*", ".*") + r"\n" for line in words.strip().splitlines()]
    pattern = "".join(lines).replace(r"…\n", r"(?:.*\n)*?")
    plain = "".join(f"{line.strip()}\n" for line in text.splitlines())
    return bool(re.search(r"(?m)^(?:.*(?:error|warning): |\* )?" + pattern, plain))


def is_like(words: str, text: str) -> bool:
    """Return whether the words are the text; `*` is any text."""
    return bool(re.fullmatch(re.escape(words).replace(r"\*", ".*"), text, re.DOTALL))


def configure(road: Road, variables: Variables) -> None:
    """Write role variables into the stack file as a user does; null removes one."""
    for machine, values in variables.items():
        place = "glm-fleet:vars" if machine == "all" else f"glm-fleet:nodes.machines.{machine}.vars"
        for name, value in values.items():
            if value is None:
                road.remove(f"{place}.{name}")
            elif isinstance(value, dict):
                for key, item in value.items():
                    road.set(f'{place}.{name}["{key}"]', str(item))
            else:
                road.set(f"{place}.{name}", str(value))


def run_commands(road: Road, commands: Commands) -> str:
    """Run commands where they belong and return their output. Raises AssertionError where one fails."""
    return "".join(
        expect_success(road.run("bash", "-c", command, timeout=UP)) if place == "here" else road.on(place, command)
        for place, command in commands.items()
    )


def converges(road: Road, *more: str) -> float:
    """Return the seconds of the next `up`, which must succeed and leave nothing to do and no drift."""
    start = time.monotonic()
    expect_success(road.up(*more))
    seconds = time.monotonic() - start
    for node in NODES:
        road.wait_for_replicas(node)
    road.expect_no_changes()
    return seconds


def _command(road: Road, fault: Fault) -> tuple[str, ...]:
    if fault.run == "up":
        return road.up_command()
    verb, *more = fault.run.split()
    if verb != "preview":
        return (verb, *more)
    return ("pulumi", verb, "--policy-pack", "policies", "--stack", "lab", "--color", "never", *more)


@functools.cache
def _untrained() -> dict[str, str]:
    return {f"untrained {name}": digest for name, digest in site.untrained_sums().items()}


def _fill(value: Any, names: dict[str, str]) -> Any:
    """Replace {name} in every text of the value."""
    if isinstance(value, dict):
        return {key: _fill(item, names) for key, item in value.items()}
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"{{{name}}}", text)
    return value
