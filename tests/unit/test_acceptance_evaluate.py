"""What a benchmark printed is read and judged: only a figure that was read, and reaches its threshold, is ok.

The samples in golden/acceptance/ are written after the sources of the programs, one call of a program each; nothing in them was measured.
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
# The figure of each test as it stands in its sample.
FIGURES = {
    "a2a": "34.718",
    "p2p-unidirectional": "48.33",
    "p2p-bidirectional": "46.23",
    "all-reduce-8GiB": "316.46",
    "gemm-fp32": "96417.3",
    "gemm-bf16": "151218",
    "stream-copy": "4231066.412",
}


def judged(name: str, output: str, rc: int | None = 0, timed_out: bool = False) -> evaluate.Measurement:
    """The result of one test, when its benchmark printed this."""
    benchmark, _ = TESTS[name]
    results = evaluate.evaluate([benchmark], {benchmark.name: evaluate.BenchmarkRun(rc, 12.0, timed_out, output)})
    return next(one for one in results if one.test == name)


def test_the_thresholds_are_those_of_the_maker() -> None:
    assert {name: (test.at_least, test.unit) for name, (_, test) in TESTS.items()} == THRESHOLDS


@pytest.mark.parametrize("name", ALL)
def test_a_sample_says_that_it_was_not_measured(name: str) -> None:
    first = (SAMPLES / f"{name}.txt").read_text().splitlines()[0]
    assert first.startswith("# Written after the source of the tool") and "not measured, on an MI300X" in first


@pytest.mark.parametrize("name", TESTS)
def test_the_figure_of_the_sample_is_read_and_is_ok(name: str) -> None:
    found = judged(name, sample(TESTS[name][0]))
    assert (found.state, found.measured) == ("ok", float(FIGURES[name]))


@pytest.mark.parametrize("name", TESTS)
def test_the_threshold_itself_is_ok_and_a_hair_less_is_not(name: str) -> None:
    benchmark, test = TESTS[name]
    assert FIGURES[name] in sample(benchmark)
    hair = 0.001 if test.unit == "MB/s" else 0.01
    for figure, state in ((test.at_least, "ok"), (test.at_least - hair, "below")):
        found = judged(name, sample(benchmark).replace(FIGURES[name], f"{figure:.3f}"))
        assert (found.state, found.measured) == (state, pytest.approx(figure))


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("figure", ["nan", "inf", "N/A", "-nan"])
def test_what_is_no_number_is_unreadable(name: str, figure: str) -> None:
    found = judged(name, with_figure(name, figure))
    assert (found.state, found.measured) == ("unreadable", None)
    assert found.seen.startswith(f"{figure!r} is no number")


@pytest.mark.parametrize("name", TESTS)
def test_a_line_that_is_missing_is_unreadable_and_the_end_of_the_output_is_shown(name: str) -> None:
    _, test = TESTS[name]
    marked = with_figure(name, "HERE")
    output = "".join(line for line in marked.splitlines(keepends=True) if "HERE" not in line)
    found = judged(name, output)
    wanted = test.each * test.best_of
    assert (found.state, found.measured) == ("unreadable", None)
    assert found.seen.splitlines()[0] == f"{wanted - 1} figures instead of {wanted}"
    assert found.seen.splitlines()[-1] == [line.rstrip() for line in output.splitlines() if line.strip()][-1]


@pytest.mark.parametrize("name", TESTS)
def test_no_output_at_all_is_unreadable(name: str) -> None:
    assert judged(name, "").state == "unreadable"


@pytest.mark.parametrize("name", TESTS)
def test_figures_twice_are_unreadable(name: str) -> None:
    """Two runs in one output: which of them would count?"""
    assert judged(name, sample(TESTS[name][0]) * 2).state == "unreadable"


@pytest.mark.parametrize("name", TESTS)
def test_an_end_that_is_not_good_is_no_pass_however_good_the_figure(name: str) -> None:
    benchmark, _ = TESTS[name]
    failed = judged(name, sample(benchmark), rc=3)
    assert (failed.state, failed.measured, failed.seen.splitlines()[0]) == ("failed", None, "exit code 3")
    late = judged(name, sample(benchmark), rc=None, timed_out=True)
    assert (late.state, late.measured) == ("timed out", None)
    assert late.seen.splitlines()[0] == f"no end within {benchmark.timeout} s"
    assert judged(name, sample(benchmark), rc=None).state == "failed"


def test_a_benchmark_of_which_nothing_was_told_is_not_run() -> None:
    assert {one.state for one in evaluate.evaluate(list(ALL.values()), {})} == {"not run"}


def test_one_slow_gpu_is_below_however_fast_the_others_are() -> None:
    found = judged("stream-copy", with_figure("stream-copy", "4177284.999", call=5))
    assert (found.state, found.measured, found.seen) == ("below", 4177284.999, "GPU 5 of 8")


def test_of_the_runs_on_one_gpu_the_best_counts() -> None:
    output = ""
    for run, figure in enumerate(("90000", "90002", "90001")):
        assert judged("gemm-fp32", output or sample(ALL["rocblas-fp32"])).state == "ok"
        output = with_figure("gemm-fp32", figure, call=3 * 4 + run, output=output)
    found = judged("gemm-fp32", output)
    assert (found.state, found.measured, found.seen) == ("below", 90_002, "GPU 4 of 8")


def test_the_mean_over_all_sizes_is_not_taken_for_the_bus_bandwidth_at_8_gib() -> None:
    assert "# Avg bus bandwidth    : 109.228" in sample(ALL["rccl-all-reduce"])
    assert judged("all-reduce-8GiB", sample(ALL["rccl-all-reduce"])).measured == 316.46


def test_a_newer_rocblas_with_a_column_of_gigabytes_is_read_all_the_same() -> None:
    output = sample(ALL["rocblas-fp32"]).replace("rocblas-Gflops,us", "rocblas-Gflops,rocblas-GB/s,us")
    assert judged("gemm-fp32", output.replace(", 1327.56", ", 144.6, 1327.56")).measured == 96417.3


def test_a_line_that_is_very_long_is_cut() -> None:
    found = judged("a2a", "x" * 5000, rc=1)
    assert max(map(len, found.seen.splitlines())) <= evaluate.WIDTH + 1


def test_a_command_of_the_stack_takes_the_place_of_ours() -> None:
    first, *others = catalogue.load({"transferbench-a2a": ["/opt/bin/TransferBench", "a2a"]}).benchmarks
    assert first.command == ["/opt/bin/TransferBench", "a2a"]
    assert others == list(catalogue.load().benchmarks)[1:]


def test_a_command_of_no_benchmark_is_told_with_the_nearest() -> None:
    with pytest.raises(errors.FleetError) as told:
        catalogue.load({"transferbench-a2": ["true"]})
    assert str(told.value) == (
        "read acceptance.commands.transferbench-a2 of the stack file: no such benchmark\n"
        "  wanted: transferbench-a2a, transferbench-p2p, rccl-all-reduce, rocblas-fp32, rocblas-bf16, babelstream\n"
        "  next:   did you mean transferbench-a2a?"
    )


def test_no_command_has_what_systemd_would_take_for_a_variable() -> None:
    """And none that a shell of `docker run` would see: a command is a list, only `sh -c` reads its one word."""
    assert [one.name for one in ALL.values() if "${" in " ".join(one.command)] == []
