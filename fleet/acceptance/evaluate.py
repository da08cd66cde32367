"""Compare the output of benchmarks with their thresholds. Pure; only a figure that was read can be ok.

Owns the state for each way that a benchmark can end. Called by fleet.cli.accept with the results of playbooks/acceptance.yml;
fleet.cli.accept_report prints the measurements, page the thresholds.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleet.acceptance.catalogue import Benchmark, Test

TAIL = 6  # last lines of an output that a message quotes
WIDTH = 160  # characters of such a line


@dataclass(frozen=True)
class BenchmarkRun:
    """One result of playbooks/files/acceptance.py: exit code (None: stopped, or never started), seconds, whole output."""

    rc: int | None
    seconds: float
    timed_out: bool
    output: str


@dataclass(frozen=True)
class Measurement:
    """The result of one test: `state` is ok, below, unreadable, failed, timed out or not run; `measured` is the figure that counts, if any."""

    test: str
    unit: str
    at_least: float
    state: str
    measured: float | None = None
    seen: str = ""

    @property
    def ok(self) -> bool:
        """Whether the machine reached the threshold."""
        return self.state == "ok"


def evaluate(benchmarks: Sequence[Benchmark], runs: Mapping[str, BenchmarkRun]) -> list[Measurement]:
    """Return a measurement for every test of every benchmark, in their order; `runs` is by name of a benchmark."""
    return [item for benchmark in benchmarks for item in _measurements(benchmark, runs.get(benchmark.name))]


def _measurements(benchmark: Benchmark, run: BenchmarkRun | None) -> Iterator[Measurement]:
    for test in benchmark.tests:
        if run is None:
            yield _not_ok(test, "not run", "the machine reported nothing about it")
        elif run.timed_out:
            yield _not_ok(test, "timed out", f"no end within {benchmark.timeout} s", run.output)
        elif run.rc:
            yield _not_ok(test, "failed", f"exit code {run.rc}", run.output)
        elif run.rc is None:
            yield _not_ok(test, "failed", "ended from outside", run.output)
        else:
            yield _read(test, run.output)


def _read(test: Test, output: str) -> Measurement:
    texts = re.findall(test.pattern, output, re.MULTILINE)
    count = test.each * test.best_of
    if len(texts) != count:
        return _not_ok(test, "unreadable", f"{len(texts)} figures instead of {count}", output)
    if malformed := [text for text in texts if not _finite(text)]:
        return _not_ok(test, "unreadable", f"{malformed[0]!r} is no number", output)
    figures = [float(text) for text in texts]
    best = [max(figures[start : start + test.best_of]) for start in range(0, count, test.best_of)]
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
    """Return `32.9 GB/s` or `4,177,285 MB/s`; `-` for None."""
    if value is None:
        return "-"
    # Rounded down: a figure just below a threshold must not look like the threshold.
    return f"{int(value):,} {unit}" if value >= 1000 else f"{int(value * 1000 + 1e-6) / 1000:g} {unit}"
