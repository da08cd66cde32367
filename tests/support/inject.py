"""Does to a standing road what a row of the table says: the fault, the run, the message, the mending, the next run.

Needs a Road whose stack is up. Called by the tests of this folder and of tests/e2e. What is measured goes to tests.support.records.
"""

import functools
import itertools
import re
import threading
import time
from typing import Any

from lab import site
from tests.support import records
from tests.support.e2e import UP, Road
from tests.support.fault_table import Commands, Fault, Variables

_numbers = itertools.count(2001)


def undergo(road: Road, fault: Fault) -> None:
    """The whole of one row; an AssertionError with the run's text where something is not as the row says."""
    row = fault
    names = {
        "lab": road.lab,
        "n": str(next(_numbers)),
        "revision": site.revision(site.CHECKPOINT),
        "untrained": site.untrained_revision(),
        **_untrained(),
    }
    fault = Fault(**_filled(fault.model_dump(), names))
    configure(road, fault.set)
    order(road, fault.prepare)
    try:
        run = Run(road, fault)
        seen = run.end()
        judge(road, fault, run, seen)
        if fault.again:
            again = road.run(*_command(road, fault), timeout=UP)
            assert again.returncode != 0 and tells(fault.again, again.stdout), again.stdout
    finally:
        order(road, fault.mend)
        configure(road, {name: dict.fromkeys(own) for name, own in fault.set.items() if name != "all"})
        configure(road, fault.correct)
        converged = converges(road, *(["--refresh"] if "--refresh" in fault.run else []))
    order(road, fault.after)
    figures = {"message": round(run.seconds, 1), "convergence": round(converged, 1)}
    records.add("faults", {row.fault: row.model_dump()}, **figures)


class Run:
    """A run during which the fault comes. `seconds` from the fault, or from the start of the run, to the message."""

    def __init__(self, road: Road, fault: Fault) -> None:
        self.road, self.fault, self.seconds, self.by_hand = road, fault, 0.0, ""
        self._logs = road.home / ".pulumi" / "logs"
        self._before = set(self._logs.glob("*"))
        self._lines: list[str] = []
        if not fault.when:
            self.by_hand = order(road, fault.breaks)
        self._since = time.monotonic()
        self._process = road.start(*_command(road, fault))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def end(self) -> str:
        """Let the fault come when it should, and return all that was said."""
        if self.fault.when:
            while not self._comes():
                assert self._process.poll() is None, f"{self.fault.when!r} is not in {''.join(self._lines)}"
                time.sleep(0.05)
            self._since = time.monotonic()
            self.by_hand = order(self.road, self.fault.breaks)
            if tells(self.fault.said, self.by_hand):  # it is the fault itself that is told, as to a second operator
                self.seconds = time.monotonic() - self._since
        self.rc = self._process.wait(UP)
        self._reader.join()
        self.seconds = self.seconds or time.monotonic() - self._since
        return "".join(self._lines) + self.by_hand

    def went_well(self, kind: str, node: str) -> bool:
        """Whether a run of a kind of resource on a node was made meanwhile, and each went well."""
        told = [path.read_text() for path in self._new(kind.lower(), node)]
        return bool(told) and all("\nwent well\n" in text for text in told)

    def _new(self, kind: str, node: str) -> list[Any]:
        return sorted(set(self._logs.glob(f"*-{kind}-{node}-*.log")) - self._before)

    def _comes(self) -> bool:
        logs = (path.read_text() for path in self._new("*", self.fault.node))
        wanted = re.compile(re.escape(self.fault.when).replace(r"\*", ".*"))
        return any(wanted.search(text) for text in ("".join(self._lines), *logs))

    def _read(self) -> None:
        first = self.fault.said.strip().splitlines()[0]
        for line in self._process.stdout or ():
            self._lines.append(line)
            if not self.seconds and tells(first, line):
                self.seconds = time.monotonic() - self._since


def judge(road: Road, fault: Fault, run: Run, seen: str) -> None:
    """What the row says of the run."""
    assert (run.rc == 0) == (fault.ends == "well"), seen
    assert tells(fault.said, seen), f"{fault.said}\nis not in\n{seen}"
    assert "Traceback" not in seen, seen
    # What is indented further is within a message: a program's own words.
    told = re.findall(r"(?m)^ {4}error: (?!(?:update|preview) failed$)", seen.partition("\nDiagnostics:\n")[2])
    assert len(told) <= 1, f"{len(told)} messages for one fault:\n{seen}"
    if fault.other:
        other = "glm-1" if fault.node == "glm-2" else "glm-2"
        assert run.went_well(fault.other, other), f"{fault.other} on {other} did not finish:\n{seen}"
    order(road, fault.held)


def tells(words: str, text: str) -> bool:
    """Whether these lines stand in the text one after the other, however far they are indented.

    `*` is any text of a line, and a line `…` any lines, none included.
    """
    lines = [re.escape(line.strip()).replace(r"\*", ".*") + r"\n" for line in words.strip().splitlines()]
    pattern = "".join(lines).replace(r"…\n", r"(?:.*\n)*?")
    plain = "".join(f"{line.strip()}\n" for line in text.splitlines())
    return bool(re.search(r"(?m)^(?:.*(?:error|warning): |\* )?" + pattern, plain))


def configure(road: Road, variables: Variables) -> None:
    """Write role variables into the stack file as a user does; null takes one out."""
    for machine, values in variables.items():
        place = "glm-fleet:vars" if machine == "all" else f"glm-fleet:nodes.machines.{machine}.vars"
        for name, value in values.items():
            if value is None:
                road.remove(f"{place}.{name}")
            elif isinstance(value, dict):
                for key, one in value.items():
                    road.set(f'{place}.{name}["{key}"]', str(one))
            else:
                road.set(f"{place}.{name}", str(value))


def order(road: Road, commands: Commands) -> str:
    """Run commands where they belong; each must end well. Returns what they said."""
    said = ""
    for place, command in commands.items():
        if place == "here":
            done = road.run("bash", "-c", command)
            assert done.returncode == 0, f"{command}: {done.stdout}"
            said += done.stdout
        else:
            said += road.on(place, command)
    return said


def converges(road: Road, *more: str) -> float:
    """The next `up` goes well, in the seconds that are returned; then nothing is left to do, and nothing is changed on the nodes."""
    start = time.monotonic()
    done = road.up(*more)
    taken = time.monotonic() - start
    assert done.returncode == 0, done.stdout
    for node in ("glm-1", "glm-2"):
        road.serves_again(node)
    clean = road.preview("--refresh", "--expect-no-changes")
    assert clean.returncode == 0, clean.stdout
    return taken


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


def _filled(value: Any, names: dict[str, str]) -> Any:
    """The value with {name} replaced in every text of it."""
    if isinstance(value, dict):
        return {key: _filled(one, names) for key, one in value.items()}
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"{{{name}}}", text)
    return value
