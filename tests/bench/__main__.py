"""`make bench`: the figures of the road, measured on a lab of its own, as a table and as JSON with the machine's load beside each.

Needs the bootstrap and the lab's images. Nothing here fails on a slow machine: figures are for reading, ratios for comparing.
Usage: python -m tests.bench [--json FILE] [--only endpoint|cluster|review|weights]
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from tests.bench import cluster, endpoint, many, peers, reviews, weights
from tests.support.e2e import STACK, Road
from tests.support.environment import expect_success


class Bench:
    """Measured rows, each with the load average at its start and its end."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def measure(self, what: str, target: str, work: Callable[[], Any], times: int = 1) -> float:
        """Return the seconds that the work takes: the median where it is done several times, which the row then lists."""
        load, runs = os.getloadavg()[0], []
        for _ in range(times):
            start = time.monotonic()
            work()
            runs.append(round(time.monotonic() - start, 2))
        seconds = statistics.median(runs)
        row = {"what": what, "target": target, "seconds": seconds}
        self.rows.append({**row, "load": [round(load, 1), round(os.getloadavg()[0], 1)]})
        if times > 1:
            self.note(runs=runs)
        print(f"{seconds:8.1f} s  {what}", flush=True)
        return seconds

    def compare(self, what: str, target: str, ways: dict[str, dict[str, float]], load: float, **more: Any) -> None:
        """Add a row of several ways to do the same, each with its figures; `load` is that of the start."""
        figures = {"load": [round(load, 1), round(os.getloadavg()[0], 1)], "ways": ways}
        self.rows.append({"what": what, "target": target, "seconds": None, **figures, **more})

    def note(self, **more: Any) -> None:
        """Add something to the newest row."""
        self.rows[-1].update(more)

    def table(self) -> str:
        """Return the rows as text, one a line."""
        lines = [f"{'seconds':>8}  {'load':>11}  what (target)"]
        for row in self.rows:
            extra = {
                key: value for key, value in row.items() if key not in ("what", "target", "seconds", "load", "ways")
            }
            more = "".join(f"; {key}: {value}" for key, value in extra.items())
            load = f"{row['load'][0]:5.1f}-{row['load'][1]:<5.1f}"
            seconds = "-" if row["seconds"] is None else f"{row['seconds']:.1f}"
            lines += [
                f"{seconds:>8}  {load}  {row['what']} ({row['target']}){more}",
                *_table(row.get("ways", {})),
            ]
        return "\n".join(lines)


def _table(ways: dict[str, dict[str, float]]) -> list[str]:
    """Return the ways of a row as text, one a line."""
    if any("p50_ms" in figures for figures in ways.values()):
        return endpoint.table(ways)
    return [
        f"{way:>22}  {', '.join(f'{name} {value}' for name, value in figures.items())}" for way, figures in ways.items()
    ]


def logins(road: Road) -> int:
    """Return the number of SSH logins on both nodes so far."""
    return sum(int(road.on(node, "journalctl -u ssh -o cat | grep -c Accepted || true")) for node in ("glm-1", "glm-2"))


def logs(road: Road) -> int:
    """Return the number of Ansible runs so far: one log a run."""
    return len(list((road.home / ".pulumi" / "logs").glob("*")))


def bench(road: Road, rows: Bench) -> None:
    """Measure every row of the table, in one run."""
    rows.measure("first pulumi up, two bare nodes, images cached", "<= 420 s", lambda: expect_success(road.up()))
    rows.note(**phases(road))

    before = logins(road), logs(road)
    rows.measure(
        "second pulumi up, nothing changed", "<= 6 s", lambda: expect_success(road.up("--expect-no-changes")), 3
    )
    after = logins(road), logs(road)
    rows.note(ssh_logins=after[0] - before[0], ansible_runs=after[1] - before[1])

    ours = rows.measure(
        "pulumi preview --refresh, all nodes, everything checked",
        "<= 9 s",
        lambda: expect_success(road.preview("--refresh", "--expect-no-changes")),
        times=5,
    )
    peer = rows.measure(
        "ansible-playbook --check, the same roles on the same nodes",
        ">= 12 times slower",
        lambda: peers.check(road),
        times=3,
    )
    rows.note(ratio=round(peer / ours, 1))

    road.set('glm-fleet:vars.vllm_flags["max-model-len"]', road.another_length())
    count = logs(road)
    rows.measure("one vLLM flag changed", "engine start + <= 15 s a node", lambda: expect_success(road.up()))
    rows.note(ansible_runs=logs(road) - count, engine_start=peers.engine_start(road))

    many.measure(road, rows)
    rows.measure("pulumi destroy", "-", lambda: expect_success(road.destroy()))
    rows.measure("pulumi up again after destroy (images cached)", "<= 420 s", lambda: expect_success(road.up()))
    rows.note(**phases(road))
    expect_success(road.destroy())


def phases(road: Road) -> dict[str, Any]:
    """Return the seconds by role, of the slower node."""
    slowest: dict[str, float] = {}
    for replica in road.outputs()["replicas"].values():
        for role, seconds in replica["seconds"].items():
            slowest[role] = max(slowest.get(role, 0), round(seconds, 1))
    return slowest


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=pathlib.Path, default=pathlib.Path(".pulumi/bench.json"))
    options.add_argument(
        "--only", choices=("endpoint", "cluster", "review", "weights"), help="leave out the other rows"
    )
    arguments = options.parse_args()
    rows = Bench()
    if arguments.only in (None, "endpoint"):
        endpoint.measure(rows)
    if arguments.only in (None, "cluster"):
        cluster.measure(rows)
    if arguments.only in (None, "weights"):
        weights.measure(rows)
    if arguments.only in (None, "review"):
        whole(rows, lab=not arguments.only)
    print(rows.table())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "max_rss_kib": peak}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"machine": machine, "rows": rows.rows}, indent=1) + "\n")
    print(f"written to {str(arguments.json.resolve()).removeprefix(f'{pathlib.Path.cwd()}/')}")


def whole(rows: Bench, lab: bool) -> None:
    """Measure what needs Pulumi, and with `lab` also what needs that."""
    with tempfile.TemporaryDirectory(prefix="glm-fleet-bench-") as folder:
        road = Road(pathlib.Path(folder) / "glm-fleet", lab="glm-bench")
        reviews.measure(road, rows)
        if not lab:
            return
        expect_success(road.run("bootstrap/stack.sh", STACK))
        peers.preview_of(100, "<= 10 s, < 512 MiB", road, rows)
        peers.preview_of(1000, "<= 30 s, <= 800 MiB", road, rows)
        try:
            bench(road, rows)
        finally:
            road.destroy()


if __name__ == "__main__":
    main()
