"""What `fleet review` of many machines costs, beside a plain `pulumi preview` of the same stack in the same run.

First of machines that nobody has set up, then of imaginary ones that are deployed (tests/support/simulated_plugin.py), with a changed flag.
Needs Pulumi and no lab. Called by tests/bench/__main__.py.
"""

import dataclasses
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from fleet.review.report import EXIT_CODES, SAFE, WINDOW
from tests.bench import peers
from tests.support.e2e import Road
from tests.support.environment import expect_success
from tests.support.pulumi_project import FLAG, ROOT, Fleet, environment_of

NODES, TARGET, TIMES = 500, "<= 25 s, < 1 GiB", 3
AT_THE_END = {"PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
PREVIEW, REVIEW = "pulumi preview", "fleet review"


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds, seconds of the processor, and the peak of resident memory in MiB, of a command with all its processes."""

    seconds: float
    cpu_seconds: float
    peak_mib: int


def measure(road: Road, rows: Any) -> None:
    """Add both rows."""
    stack = peers.many_machines(NODES, road)
    pulumi = ("pulumi", "preview", "--stack", stack, "--color", "never", "--policy-pack", "policies")
    review = ("python", "-m", "fleet.cli.main", "review", "-s", stack, "--no-refresh", "--out", "report.json")
    runner = _runner(road.home, {**road.env})
    compare(
        rows, f"{REVIEW} of {NODES} new ssh nodes", {PREVIEW: (pulumi, 0), REVIEW: (review, EXIT_CODES[SAFE])}, runner
    )
    with tempfile.TemporaryDirectory(prefix="glm-fleet-bench-") as folder:
        fleet = Fleet(pathlib.Path(folder))
        machines = yaml.safe_load((road.home / "stacks" / f"{stack}.yaml").read_text())
        fleet.set_apart("many.yaml").write_text(yaml.safe_dump(machines))
        expect_success(_up(fleet))
        fleet.set(FLAG, "32768")
        pulumi = ("pulumi", "preview", "--refresh", "-s", "prod", "--color", "never", "--policy-pack", "policies")
        review = (str(ROOT / ".venv" / "bin" / "fleet"), "review", "-s", "prod", "--out", "report.json")
        runner = _runner(fleet.project, environment_of(fleet.project / "state"))
        what = f"{REVIEW} of {NODES} deployed, imaginary nodes with a changed flag"
        compare(rows, what, {PREVIEW: (pulumi, 0), REVIEW: (review, EXIT_CODES[WINDOW])}, runner)
        size = (fleet.project / "report.json").stat().st_size
        rows.note(report_mib=round(size / 2**20, 1))


def compare(
    rows: Any, what: str, ways: Mapping[str, tuple[tuple[str, ...], int]], run: Callable[[tuple[str, ...], int], Cost]
) -> None:
    """Add a row with the median cost of each way, a command with its exit code, each run in turn."""
    load = os.getloadavg()[0]
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(TIMES):
        for way, (command, code) in ways.items():
            costs[way].append(run(command, code))
    figures = {
        way: {
            field.name: round(statistics.median(getattr(cost, field.name) for cost in those), 1)
            for field in dataclasses.fields(Cost)
        }
        for way, those in costs.items()
    }
    ratio = round(figures[REVIEW]["cpu_seconds"] / figures[PREVIEW]["cpu_seconds"], 2)
    rows.compare(what, TARGET, figures, load, cpu_ratio=ratio)
    print(f"{figures[REVIEW]['seconds']:8.1f} s  {what}", flush=True)


def _runner(folder: pathlib.Path, environment: Mapping[str, str]) -> Callable[[tuple[str, ...], int], Cost]:
    """Return a function that runs a command in a folder, in a session of its own, and returns its cost."""

    def run(command: tuple[str, ...], code: int) -> Cost:
        peak, start = peers.Peak(), time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                command, cwd=folder, env={**environment}, stdout=output, stderr=output, start_new_session=True
            )
            with peak.of(process.pid):
                _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)  # so that it is not waited for again
            seconds = time.monotonic() - start
            output.seek(0)
            assert process.returncode == code, output.read()[-4000:]
        return Cost(seconds, usage.ru_utime + usage.ru_stime, peak.mib)

    return run


def _up(fleet: Fleet) -> subprocess.CompletedProcess[str]:
    """Deploy, with one write of the state at the end: one for each resource would take a quarter of an hour."""
    environment = {**environment_of(fleet.project / "state"), **AT_THE_END}
    command = ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "-s", "prod"]
    return subprocess.run(
        command, cwd=fleet.project, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
