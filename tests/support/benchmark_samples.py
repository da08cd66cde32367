"""What the benchmarks of `fleet accept` print on a machine that passes: the samples in tests/unit/golden/acceptance."""

import re
from pathlib import Path

from fleet.acceptance import catalogue

SAMPLES = Path(__file__).parents[1] / "unit" / "golden" / "acceptance"
ALL = {one.name: one for one in catalogue.load().benchmarks}
TESTS = {test.name: (one, test) for one in ALL.values() for test in one.tests}


def calls(benchmark: catalogue.Benchmark) -> int:
    """How often the command of a benchmark calls its program."""
    return benchmark.tests[0].each * benchmark.tests[0].best_of


def sample(benchmark: catalogue.Benchmark) -> str:
    """All that a benchmark prints on a machine that passes."""
    return (SAMPLES / f"{benchmark.name}.txt").read_text() * calls(benchmark)


def with_figure(name: str, figure: str, call: int = 0, output: str = "") -> str:
    """The sample (or such an output), with another figure in one of its calls."""
    benchmark, test = TESTS[name]
    output = output or sample(benchmark)
    start, end = list(re.finditer(test.pattern, output, re.MULTILINE))[call].span(1)
    return output[:start] + figure + output[end:]
