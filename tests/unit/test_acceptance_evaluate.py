"""Acceptance reads and judges what a benchmark prints: only a figure that can be read, and reaches its threshold, is ok.

The samples in golden/acceptance/ follow the sources of the programs, one call of a program each; nothing in them was measured.
"""

import pytest

from fleet import errors
from fleet.acceptance import catalogue, evaluate
from tests.support.benchmark_samples import ALL, SAMPLES, TESTS, sample, with_figure

# Everything that must be reached, as its maker says it (docs/mi300x/acceptance-criteria.rst of ROCm/system-acceptance-docs).
THRESHOLDS = {
    "a2a": (32.9, "GB/s"),
    "p2p-unidirectional": (33.9, "GB/s"),
    "p2p-bidirectional": (43.9, "GB/s"),
    "all-reduce-8GiB": (304, "GB/s"),
    "gemm-fp32": (94_100, "GFLOPS"),
    "gemm-bf16": (130_600, "GFLOPS"),
    "stream-copy": (4_177_285, "MB/s"),
}
# The figure of each test in its sample.
FIGURES = {
    "a2a": "34.718",
    "p2p-unidirectional": "48.33",
    "p2p-bidirectional": "46.23",
    "all-reduce-8GiB": "316.46",
    "gemm-fp32": "96417.3",
    "gemm-bf16": "151218",
    "stream-copy": "4231066.412",
}


def judge(name: str, output: str, rc: int | None = 0, timed_out: bool = False) -> evaluate.Measurement:
    """Return the measurement of a test whose benchmark prints `output`."""
    benchmark, _ = TESTS[name]
    measurements = evaluate.evaluate([benchmark], {benchmark.name: evaluate.BenchmarkRun(rc, 12.0, timed_out, output)})
    return next(measurement for measurement in measurements if measurement.test == name)


def test_the_thresholds_are_amd_s() -> None:
    assert {name: (test.at_least, test.unit) for name, (_, test) in TESTS.items()} == THRESHOLDS


@pytest.mark.parametrize("name", ALL)
def test_a_sample_says_that_nobody_measured_it(name: str) -> None:
    first = (SAMPLES / f"{name}.txt").read_text().splitlines()[0]
    assert first.startswith("# Written after the source of the tool") and "not measured, on an MI300X" in first


@pytest.mark.parametrize("name", TESTS)
def test_the_figure_of_the_sample_is_ok(name: str) -> None:
    measurement = judge(name, sample(TESTS[name][0]))
    assert (measurement.state, measurement.measured) == ("ok", float(FIGURES[name]))


@pytest.mark.parametrize("name", TESTS)
def test_the_threshold_is_ok_and_slightly_less_is_not(name: str) -> None:
    benchmark, test = TESTS[name]
    assert FIGURES[name] in sample(benchmark)
    step = 0.001 if test.unit == "MB/s" else 0.01
    for figure, state in ((test.at_least, "ok"), (test.at_least - step, "below")):
        measurement = judge(name, sample(benchmark).replace(FIGURES[name], f"{figure:.3f}"))
        assert (measurement.state, measurement.measured) == (state, pytest.approx(figure))


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("figure", ["nan", "inf", "N/A", "-nan"])
def test_a_figure_that_is_no_number_is_unreadable(name: str, figure: str) -> None:
    measurement = judge(name, with_figure(name, figure))
    assert (measurement.state, measurement.measured) == ("unreadable", None)
    assert measurement.seen.startswith(f"{figure!r} is no number")


@pytest.mark.parametrize("name", TESTS)
def test_a_missing_line_is_unreadable_and_the_report_shows_the_end_of_the_output(name: str) -> None:
    _, test = TESTS[name]
    output = "".join(line for line in with_figure(name, "HERE").splitlines(keepends=True) if "HERE" not in line)
    measurement = judge(name, output)
    figures = test.each * test.best_of
    assert (measurement.state, measurement.measured) == ("unreadable", None)
    assert measurement.seen.splitlines()[0] == f"{figures - 1} figures instead of {figures}"
    assert measurement.seen.splitlines()[-1] == [line.rstrip() for line in output.splitlines() if line.strip()][-1]


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("runs", [0, 2])
def test_the_output_of_no_run_and_of_two_runs_is_unreadable(name: str, runs: int) -> None:
    assert judge(name, sample(TESTS[name][0]) * runs).state == "unreadable"


@pytest.mark.parametrize("name", TESTS)
def test_a_benchmark_that_fails_does_not_pass_however_good_its_figure(name: str) -> None:
    benchmark, _ = TESTS[name]
    failure = judge(name, sample(benchmark), rc=3)
    assert (failure.state, failure.measured, failure.seen.splitlines()[0]) == ("failed", None, "exit code 3")
    timeout = judge(name, sample(benchmark), rc=None, timed_out=True)
    assert (timeout.state, timeout.measured) == ("timed out", None)
    assert timeout.seen.splitlines()[0] == f"no end within {benchmark.timeout} s"
    assert judge(name, sample(benchmark), rc=None).state == "failed"


def test_a_benchmark_without_an_answer_is_not_run() -> None:
    assert {measurement.state for measurement in evaluate.evaluate(list(ALL.values()), {})} == {"not run"}


def test_one_slow_gpu_is_below_however_fast_the_others_are() -> None:
    slow = judge("stream-copy", with_figure("stream-copy", "4177284.999", call=5))
    assert (slow.state, slow.measured, slow.seen) == ("below", 4177284.999, "GPU 5 of 8")


def test_of_the_runs_on_one_gpu_the_best_counts() -> None:
    output = ""
    for run, figure in enumerate(("90000", "90002", "90001")):
        assert judge("gemm-fp32", output or sample(ALL["rocblas-fp32"])).state == "ok"
        output = with_figure("gemm-fp32", figure, call=3 * 4 + run, output=output)
    best = judge("gemm-fp32", output)
    assert (best.state, best.measured, best.seen) == ("below", 90_002, "GPU 4 of 8")


def test_the_bus_bandwidth_at_8_gib_is_not_the_mean_over_all_sizes() -> None:
    assert "# Avg bus bandwidth    : 109.228" in sample(ALL["rccl-all-reduce"])
    assert judge("all-reduce-8GiB", sample(ALL["rccl-all-reduce"])).measured == 316.46


def test_a_newer_rocblas_with_a_column_of_gigabytes_is_readable() -> None:
    output = sample(ALL["rocblas-fp32"]).replace("rocblas-Gflops,us", "rocblas-Gflops,rocblas-GB/s,us")
    assert judge("gemm-fp32", output.replace(", 1327.56", ", 144.6, 1327.56")).measured == 96417.3


def test_the_report_cuts_a_very_long_line() -> None:
    assert max(map(len, judge("a2a", "x" * 5000, rc=1).seen.splitlines())) <= evaluate.WIDTH + 1


def test_a_command_of_the_stack_replaces_ours() -> None:
    first, *others = catalogue.load({"transferbench-a2a": ["/opt/bin/TransferBench", "a2a"]}).benchmarks
    assert first.command == ["/opt/bin/TransferBench", "a2a"]
    assert others == list(catalogue.load().benchmarks)[1:]


def test_a_command_for_an_unknown_benchmark_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(errors.FleetError) as caught:
        catalogue.load({"transferbench-a2": ["true"]})
    assert str(caught.value) == (
        "read acceptance.commands.transferbench-a2 of the stack file: no such benchmark\n"
        "  wanted: transferbench-a2a, transferbench-p2p, rccl-all-reduce, rocblas-fp32, rocblas-bf16, babelstream\n"
        "  next:   did you mean transferbench-a2a?"
    )


def test_no_command_has_what_systemd_would_take_for_a_variable() -> None:
    """No shell of `docker run` sees one either: a command is a list, only `sh -c` reads its one word."""
    assert [benchmark.name for benchmark in ALL.values() if "${" in " ".join(benchmark.command)] == []
