"""The output of the benchmarks of `fleet accept` on a machine that passes: the samples in tests/unit/golden/acceptance."""

import re
from pathlib import Path

from fleet.acceptance import catalogue

SAMPLES = Path(__file__).parents[1] / "unit" / "golden" / "acceptance"
ALL = {benchmark.name: benchmark for benchmark in catalogue.load().benchmarks}
TESTS = {test.name: (benchmark, test) for benchmark in ALL.values() for test in benchmark.tests}


def calls(benchmark: catalogue.Benchmark) -> int:
    """Return how often the command of a benchmark calls its program."""
    return benchmark.tests[0].each * benchmark.tests[0].best_of


def sample(benchmark: catalogue.Benchmark) -> str:
    """Return a benchmark's whole output on a machine that passes."""
    return (SAMPLES / f"{benchmark.name}.txt").read_text() * calls(benchmark)


def with_figure(name: str, figure: str, call: int = 0, output: str = "") -> str:
    """Return the sample (or such an output), with another figure in one of its calls."""
    benchmark, test = TESTS[name]
    output = output or sample(benchmark)
    start, end = list(re.finditer(test.pattern, output, re.MULTILINE))[call].span(1)
    return output[:start] + figure + output[end:]
