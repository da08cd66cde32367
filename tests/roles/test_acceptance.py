"""Claims about playbooks/acceptance.yml and its evaluation, on a lab node after its Host; on Ubuntu 24.04.

The image is a **stand-in**: its programs print the samples of tests/unit/golden/acceptance/, and compute nothing. Nothing here shows the
output of the real programs, or the speed of an MI300X.
"""

import base64
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import errors
from fleet.acceptance import catalogue
from fleet.cli import accept as run
from fleet.cli import accept_report as report
from tests.support.role_node import Place

# Optional, and two and a half minutes: `make test-all`. tests/unit/test_acceptance_evaluate.py has the evaluation.
pytestmark = pytest.mark.exhaustive
SAMPLES = Path(__file__).parents[1] / "unit" / "golden" / "acceptance"
# Each program of the stand-in prints the sample of one call, after a check: eight GPUs, and no network.
LOOK = """
given() { [ $# = 8 ] && [ -c "$1" ] && [ -c /dev/kfd ] || { echo "given $*"; exit 9; }; }
given /dev/dri/renderD*
[ "$(echo /sys/class/net/*)" = /sys/class/net/lo ] || { echo "a network"; exit 9; }
"""
PROGRAMS = {
    "TransferBench": "cat /samples/transferbench-$1.txt",
    "all_reduce_perf": "cat /samples/rccl-all-reduce.txt",
    "rocblas-bench": 'case "$*" in *gemm_strided_batched_ex*) cat /samples/rocblas-bf16.txt ;; *) cat /samples/rocblas-fp32.txt ;; esac',
    "hip-stream": "cat /samples/babelstream.txt",
}
TAG = "registry.lab.internal:5000/lab/stand-in:acceptance"
# The node's own shell and its libraries; no package and no other image.
BUILD = f"""
set -e
root=$(mktemp -d)
base64 -d | tar -x -C $root
tar -ch -C / bin/sh bin/cat bin/sleep lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6 | tar -x -C $root
mkdir -p $root/tmp
tar -c -C $root . | docker import - {TAG} >/dev/null
rm -rf $root
docker push -q {TAG} >/dev/null
docker image inspect --format '{{{{index .RepoDigests 0}}}}' {TAG}
docker image rm {TAG} >/dev/null
"""


def archive() -> str:
    """Return samples and programs as a tar, in base64."""
    out = io.BytesIO()
    below = (SAMPLES / "transferbench-a2a.txt").read_text().replace("34.718 GB/s", "32.899 GB/s")
    texts = {f"samples/{file.name}": file.read_text() for file in SAMPLES.glob("*.txt")} | {"samples/below.txt": below}
    programs = {f"usr/bin/{name}": f"#!/bin/sh{LOOK}{text}\n" for name, text in PROGRAMS.items()}
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in {**texts, **programs}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    return base64.encodebytes(out.getvalue()).decode()


@pytest.fixture(scope="module")
def stand_in() -> dict[str, str]:
    """The image's reference by digest, once a test has built it."""
    return {}


@pytest.fixture
def image(ready: Place, stand_in: dict[str, str]) -> str:
    """The stand-in in the lab's registry, by digest; the node has no copy of it."""
    if not stand_in:
        stand_in["image"] = ready.sh(BUILD, archive()).split()[-1]
    return stand_in["image"]


@pytest.fixture
def drained(ready: Place, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The node without the replicas of other tests; they run again afterwards."""
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    find = "systemctl list-units --plain --no-legend --state=active 'glm-*.service' | cut -d' ' -f1"
    units = " ".join(ready.sh(find).split())
    if units:
        ready.sh(f"systemctl stop {units}")
    yield ready
    if units:
        ready.sh(f"systemctl start {units}")


def measure(
    place: Place, image: str, own: catalogue.Catalogue | None = None, stop: threading.Event | None = None
) -> report.Report:
    candidate = run.Candidate("lab", place.node, image, own or catalogue.load())
    return run.measure(candidate, lambda text: None, stop or threading.Event())


def left(place: Place) -> str:
    """Return what a measurement could leave on a machine: containers, images, its folder, units."""
    units = "systemctl list-units --all --plain --no-legend 'fleet-measure-*'"
    folder = "ls -d /run/fleet-acceptance 2>/dev/null"
    return place.sh(f"docker ps --all --quiet; docker image ls --quiet | sort; {folder}; {units}; true")


def test_a_machine_whose_programs_print_the_samples_passes_and_keeps_nothing(drained: Place, image: str) -> None:
    before = left(drained)
    result = measure(drained, image)
    assert report.as_table([result]).count(" ok") == 7, "\n".join(report.problems([result]))
    assert (result.passed, result.stays) == (True, [])
    assert left(drained) == before
    evidence = Path(result.evidence).read_text()
    assert evidence.count("rocblas-Gflops,us") == 48 and evidence.count("Using HIP device") == 8
    assert "Aggregate bandwidth (CPU Timed)" in evidence and "===== exit code 0" in evidence


def test_a_measurement_reports_each_slow_failed_or_endless_benchmark_and_measures_the_others(
    drained: Place, image: str
) -> None:
    before = left(drained)
    ours = catalogue.load(
        {
            "transferbench-a2a": ["cat", "/samples/below.txt"],
            "rccl-all-reduce": ["sh", "-c", "all_reduce_perf; echo broken; exit 3"],
            "rocblas-bf16": ["no-such-program"],
            "babelstream": ["sleep", "600"],
        }
    )
    benchmarks = [
        benchmark.model_copy(update={"timeout": 5}) if benchmark.name == "babelstream" else benchmark
        for benchmark in ours.benchmarks
    ]
    result = measure(drained, image, ours.model_copy(update={"benchmarks": benchmarks}))
    assert {verdict.test: verdict.state for verdict in result.verdicts} == {
        "a2a": "below",
        "p2p-unidirectional": "ok",
        "p2p-bidirectional": "ok",
        "all-reduce-8GiB": "failed",
        "gemm-fp32": "ok",
        "gemm-bf16": "failed",
        "stream-copy": "timed out",
    }
    reasons = {verdict.test: verdict.seen for verdict in result.verdicts}
    assert reasons["all-reduce-8GiB"].splitlines()[0] == "exit code 3" and reasons["all-reduce-8GiB"].endswith(
        "\nbroken"
    )
    assert "no-such-program" in reasons["gemm-bf16"]
    assert left(drained) == before


@pytest.fixture
def replica(drained: Place) -> Iterator[str]:
    """A running unit with the first line of a replica's."""
    unit = "# glm-fleet replica. by the test\\n[Service]\\nExecStart=/bin/sleep 600\\n"
    drained.sh(f"printf '{unit}' >/etc/systemd/system/glm-7.service; systemctl daemon-reload; systemctl start glm-7")
    yield "glm-7.service"
    drained.sh("systemctl stop glm-7; rm /etc/systemd/system/glm-7.service; systemctl daemon-reload")


def test_a_measurement_beside_a_running_replica_fails_and_changes_nothing(
    drained: Place, image: str, replica: str
) -> None:
    before = left(drained)
    with pytest.raises(errors.ConvergeFailed) as caught:
        measure(drained, image)
    message = str(caught.value)
    assert f"Check that no replica runs: {replica} runs on these GPUs\n  wanted: GPUs that nothing uses\n" in message
    assert f"`state: drain` for {drained.node.name} in the stack file, then `pulumi up`" in message
    assert "`fleet accept` starts again" in message
    assert left(drained) == before


def test_a_measurement_of_gpus_without_thresholds_fails(drained: Place, image: str) -> None:
    ours = catalogue.load()
    four = ours.model_copy(update={"holds": ours.holds.model_copy(update={"gpus": 4})})
    with pytest.raises(errors.ConvergeFailed) as caught:
        measure(drained, image, four)
    assert "8 GPUs, PCI device 0x74a1\n  wanted: 4 MI300X, for which the thresholds hold" in str(caught.value)


def test_a_cancel_ends_the_container_within_seconds(drained: Place, image: str) -> None:
    ours, stop = catalogue.load({"transferbench-a2a": ["sleep", "600"]}), threading.Event()
    reasons: list[str] = []

    def measure_until_cancelled() -> None:
        try:
            measure(drained, image, ours, stop)
        except errors.Cancelled as error:
            reasons.append(error.seen)

    thread = threading.Thread(target=measure_until_cancelled)
    thread.start()
    deadline = time.monotonic() + 300
    while "sleep 600" not in drained.sh("docker ps --no-trunc --format '{{.Command}}' --filter name=fleet-acceptance"):
        assert time.monotonic() < deadline and thread.is_alive(), "the benchmark did not begin"
        time.sleep(0.5)
    stop.set()
    thread.join(timeout=20)
    assert reasons == ["cancelled"]
    assert drained.sh("docker ps --all --quiet --filter name=fleet-acceptance").strip() == ""
    # the next run removes what the cancelled one could not
    assert measure(drained, image).passed
    assert drained.sh("ls -d /run/fleet-acceptance 2>/dev/null || true").strip() == ""
    assert drained.sh(f"docker image inspect {image} 2>/dev/null || true").strip() in ("", "[]")
