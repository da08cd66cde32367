"""What a benchmark printed, against its thresholds. Pure: text in, measurements out; only a figure that was read can be ok.

Owns what each end of a benchmark means. Called by `run`, which has the outputs from playbooks/acceptance.yml.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.acceptance.catalogue import Benchmark, Test

TAIL = 6  # lines of an output that say most about why it cannot be read
WIDTH = 160


@dataclass(frozen=True)
class Ran:
    """How a benchmark ended: exit code (None where its container was ended, or never began), seconds, and all that it printed."""

    rc: int | None
    seconds: float
    timed_out: bool
    output: str

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Ran":
        """Build from what playbooks/files/acceptance.py wrote."""
        return cls(told["rc"], told["seconds"], told["timed_out"], told["output"])


@dataclass(frozen=True)
class Measurement:
    """One test: `state` is ok, below, unreadable, failed, timed out or not run; `measured` is the figure that counts, where one was read."""

    test: str
    unit: str
    at_least: float
    state: str
    measured: float | None = None
    seen: str = ""

    @property
    def ok(self) -> bool:
        """Whether the machine reached it."""
        return self.state == "ok"


def evaluate(benchmarks: Sequence[Benchmark], ran: Mapping[str, Ran]) -> list[Measurement]:
    """Return a measurement for every test of every benchmark, in their order; `ran` is by name of a benchmark."""
    return [measurement for one in benchmarks for measurement in _of(one, ran.get(one.name))]


def _of(benchmark: Benchmark, ran: Ran | None) -> Iterator[Measurement]:
    for test in benchmark.tests:
        if ran is None:
            yield _not_ok(test, "not run", "the machine told nothing of it")
        elif ran.timed_out:
            yield _not_ok(test, "timed out", f"no end within {benchmark.timeout} s", ran.output)
        elif ran.rc:
            yield _not_ok(test, "failed", f"exit code {ran.rc}", ran.output)
        elif ran.rc is None:
            yield _not_ok(test, "failed", "ended from outside", ran.output)
        else:
            yield _read(test, ran.output)


def _read(test: Test, output: str) -> Measurement:
    told = re.findall(test.pattern, output, re.MULTILINE)
    wanted = test.each * test.best_of
    if len(told) != wanted:
        return _not_ok(test, "unreadable", f"{len(told)} figures where {wanted} were to be", output)
    try:
        figures = [float(one) for one in told]
    except ValueError:
        figures = [math.nan]
    if not all(map(math.isfinite, figures)):
        said = next(one for one in told if not _finite(one))
        return _not_ok(test, "unreadable", f"{said!r} is no number", output)
    best = [max(figures[start : start + test.best_of]) for start in range(0, wanted, test.best_of)]
    worst = min(best)
    where = f"GPU {best.index(worst)} of {test.each}" if test.each > 1 else ""
    state = "ok" if worst >= test.at_least else "below"
    return Measurement(test.name, test.unit, test.at_least, state, worst, where)


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _not_ok(test: Test, state: str, why: str, output: str = "") -> Measurement:
    return Measurement(test.name, test.unit, test.at_least, state, None, "\n".join([why, *_tail(output)]))


def _tail(output: str) -> list[str]:
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    return [line if len(line) <= WIDTH else f"{line[:WIDTH]}…" for line in lines[-TAIL:]]


def figure(value: float | None, unit: str) -> str:
    """Return `32.9 GB/s` or `4,177,285 MB/s`; `-` where nothing was read."""
    if value is None:
        return "-"
    # Rounded down: what is just below a threshold must not look as if it had reached it.
    return f"{int(value):,} {unit}" if value >= 1000 else f"{int(value * 1000 + 1e-6) / 1000:g} {unit}"
