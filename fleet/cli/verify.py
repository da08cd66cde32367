"""`fleet verify`: compare the weights on the nodes, byte for byte, and the images of the replicas with the stack's state.

fleet.managed.verify_weights reads the nodes, all at once, with one line of progress for all. A node that cannot be read does not
stop the others. Needs a stack that is up. On a cluster pod_verify.py does it.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import asdict, dataclass, field
from typing import Any

import click

from fleet import errors, probes, ssh
from fleet.cli import common, stack_outputs, table
from fleet.managed import verify_weights as machine
from fleet.stack import settings, stack_file

HEAD = ("node", "files", "bytes", "verdict")
EVERY = 10.0  # seconds between two lines of progress

State = Mapping[str, Mapping[str, Any]]  # outputs by node


@click.command("verify")
@common.stack_option
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@common.exit_on_error(2)
def command(stack: str, nodes: tuple[str, ...], as_json: bool) -> None:
    """Compare every byte of the weights, and the images, with the record.

    The record is in the stack's state, from the fetch of the weights. A wrong file keeps its content and gets the present time: the next
    `pulumi up --refresh` then fetches it again.

    On a Kubernetes cluster, where NODE may also be a model or a pod: whether each pod is ready, has the recorded image and template, and
    passes all probes. Jobs compare the weights there; it prints how to let them do it again.

    Exit code 1 when something differs, 2 when a node could not be read.
    """
    loaded = stack_file.read(stack, common.root())
    if loaded.kubernetes:
        _pods(stack, loaded, nodes, as_json)
        return
    reports = verify_stack(stack, nodes, common.progress)
    if as_json:
        click.echo(to_json(reports))
    else:
        click.echo("\n".join([as_table(reports), *problems(reports, stack)]))
    if any(report.wrong for report in reports):
        sys.exit(1)
    if any(report.error for report in reports):
        sys.exit(2)


def _pods(stack: str, loaded: settings.Settings, names: Sequence[str], as_json: bool) -> None:
    from fleet.cli import pod_verify  # only stacks on a cluster need it

    assert loaded.kubernetes
    outputs, extra = stack_outputs.whole(stack), loaded.probes.extra
    rollouts = outputs["rollouts"]
    if not rollouts:
        raise errors.FleetError(doing="verify", seen="the stack has no pods", next=f"`pulumi up -s {stack}` makes them")
    cases = probes.load(loaded.probes.cases, loaded.probes.min_iou, common.root() / extra if extra else None)
    key = outputs.get("api_key") or stack_outputs.configured_key(stack)
    reports = pod_verify.verify(rollouts, names, cases, key, common.progress)
    if as_json:
        click.echo(pod_verify.to_json(reports))
    else:
        filled = loaded.kubernetes.filled
        about = [pod_verify.about_weights(rollouts, loaded.kubernetes.jobs_namespace, stack)] if filled else []
        click.echo("\n\n".join([pod_verify.as_table(reports), *pod_verify.problems(reports, stack), *about]))
    if any(report.wrong for report in reports):
        sys.exit(1)
    if any(report.error for report in reports):
        sys.exit(2)


@dataclass(frozen=True)
class WeightsReport:
    """The differences on one node as {what, expected, seen}, or why the node could not be read."""

    node: str
    path: str
    files: int = 0
    bytes: int = 0
    wrong: list[dict[str, str]] = field(default_factory=list)
    error: str = ""


def recorded(weights: State, servings: State, names: Sequence[str]) -> list[machine.RecordedWeights]:
    """Return the record of each named node (no name means all). Raises FleetError for a name without verified weights."""
    records = {
        node: record
        for node in sorted(weights, key=table.natural_order)
        if (record := _recorded(node, weights[node], servings.get(node) or {}))
    }
    seen, next_step = "the stack's state has no verified weights of it", "`pulumi up` fetches and verifies them"
    return [records[node] for node in common.chosen("verify", names, list(records), seen, lambda _: next_step)]


def _recorded(node: str, weights: Mapping[str, Any], serving: Mapping[str, Any]) -> machine.RecordedWeights | None:
    manifest = f"{weights.get('path')}/manifest.json"
    manifest_sum = _expected(weights).get(f"file {manifest}", {}).get("sha256")
    if not manifest_sum:
        return None
    containers = {name: item["image_id"] for name, item in _expected(serving).items() if "image_id" in item}
    images = {name.removeprefix("container "): image for name, image in containers.items()}
    target = ssh.Target.from_inputs({**weights["node"], "name": node})
    return machine.RecordedWeights(target, manifest, manifest_sum, images)


def _expected(outputs: Mapping[str, Any]) -> Mapping[str, Any]:
    expected: Mapping[str, Any] = (outputs.get("managed") or {}).get("expected") or {}
    return expected


def verify(
    nodes: Sequence[machine.RecordedWeights], note: Callable[[str], None], every: float = EVERY
) -> list[WeightsReport]:
    """Read all nodes at once; `note` gets a line of progress every `every` seconds."""
    stop = threading.Event()
    progress = {node.target.name: (0, 0) for node in nodes}

    def verify_node(node: machine.RecordedWeights) -> WeightsReport:
        name, path = node.target.name, node.manifest.rpartition("/")[0]

        def report_progress(done: int, total: int) -> None:
            progress[name] = (done, total)
            if stop.is_set():
                raise errors.Cancelled(node=name, doing=f"verify {path}", seen="cancelled")

        try:
            result = machine.verify(node, report_progress)
        except errors.FleetError as error:
            progress.pop(name)
            return WeightsReport(name, path, error=str(error))
        return WeightsReport(name, path, result.files, result.bytes, result.wrong)

    started = time.monotonic()
    with futures.ThreadPoolExecutor(max(1, len(nodes))) as pool:
        running = [pool.submit(verify_node, node) for node in nodes]
        try:
            while futures.wait(running, timeout=every).not_done:
                if now := dict(progress):
                    note(progress_line(now, time.monotonic() - started))
        finally:
            stop.set()  # on ^C each node stops at its next line of progress
    return [ended.result() for ended in running]


def progress_line(progress: Mapping[str, tuple[int, int]], seconds: float) -> str:
    """Return the progress of all nodes in one line: bytes, speed, and the time left on the slowest, or the nodes without progress yet."""
    done, total = (sum(part) for part in zip(*progress.values(), strict=True))
    silent = [node for node, (read, _) in progress.items() if not read]
    if silent:
        left = f"nothing yet of {', '.join(silent[:3])}{f' and {len(silent) - 3} more' if silent[3:] else ''}"
    else:
        last = max(progress, key=lambda node: progress[node][1] - progress[node][0])
        read, of = progress[last]
        left = f"about {minutes((of - read) * seconds / read)} left on {last}"
    return f"{table.size(done)} of {table.size(total)}, {table.size(int(done / max(seconds, 0.001)))}/s, {left}"


def minutes(seconds: float) -> str:
    """Return a time as `40 s` or `3 min`."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def as_table(reports: Sequence[WeightsReport]) -> str:
    """Return a table with one line per node."""
    return table.columns([HEAD, *map(_row, reports)])


def _row(report: WeightsReport) -> tuple[str, ...]:
    if report.error:
        return report.node, "-", "-", "could not read"
    count = len(report.wrong)
    verdict = f"{count} {'thing differs' if count == 1 else 'things differ'}" if count else "as recorded"
    return report.node, str(report.files), table.size(report.bytes), verdict


def problems(reports: Sequence[WeightsReport], stack: str) -> list[str]:
    """Return a message for each node with differences, and for each that could not be read."""
    return [report.error or _differs(report, stack) for report in reports if report.error or report.wrong]


def _differs(report: WeightsReport, stack: str) -> str:
    shown = [f"{wrong['what']}: {wrong['seen']}\n  recorded: {wrong['expected']}" for wrong in report.wrong]
    command = f"--refresh -s {stack} --policy-pack policies"
    message = errors.FleetError(
        node=report.node,
        doing=f"verify {report.path}",
        seen="\n".join([f"{len(shown)} of what was recorded {'differs' if len(shown) == 1 else 'differ'}", *shown]),
        next=f"`pulumi preview {command}` shows the effects;\n`pulumi up {command}` fetches wrong files again and restarts what loaded them",
    )
    return str(message)


def to_json(reports: Sequence[WeightsReport]) -> str:
    """Return the reports as JSON."""
    return json.dumps([asdict(report) for report in reports], indent=1)


def verify_stack(stack: str, names: Sequence[str], note: Callable[[str], None]) -> list[WeightsReport]:
    """Read the stack's state and verify its nodes."""
    resources = stack_outputs.deployed(stack)
    return verify(recorded(resources.get("Weights") or {}, resources.get("Serving") or {}, names), note)
