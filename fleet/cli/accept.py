"""`fleet accept`: run playbooks/acceptance.yml on machines, several at once, compare the figures with the thresholds, keep the output.

Owns the choice of machines, the number at once, and the files in .pulumi/evidence/. A machine that cannot be measured does not stop
the others. Needs a stack that is up; fleet.acceptance has the thresholds, accept_report.py the text.
"""

import functools
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fleet import errors, ssh, validators
from fleet.acceptance import catalogue, evaluate
from fleet.acceptance.catalogue import Catalogue
from fleet.ansible import converge
from fleet.cli import accept_report as report
from fleet.cli import common, stack_outputs, table
from fleet.provider import base
from fleet.ssh import reply
from fleet.stack import mirrors, settings

EVERY = 10.0  # seconds between two lines of progress
PULL = 3600  # seconds for the image and the other tasks of the playbook, besides the benchmarks
IMAGE = re.compile(r"(.+@)?sha256:[0-9a-f]{64}")

# The form of the results of playbooks/files/acceptance.py: `ran` by benchmark, `stays` what it left on the machine.
RAN = validators.Record(
    {
        "rc": validators.Either((validators.Whole(-255, 255), validators.Nothing()), "an exit code or nothing"),
        "seconds": validators.Number(),
        "timed_out": validators.Flag(),
        "output": validators.Text(most=1 << 22, lines=True),
    }
)
RESULTS = validators.Record(
    {},
    optional={
        "ran": validators.Table(validators.Text(), RAN, most=100),
        "stays": validators.Each(validators.Text(lines=True)),
    },
)

State = Mapping[str, Mapping[str, Any]]  # outputs by node


@click.command("accept")
@common.stack_option
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@common.exit_on_error(2)
def command(stack: str, nodes: tuple[str, ...], as_json: bool) -> None:
    """Run the benchmarks of docs/acceptance.md on machines with idle GPUs.

    Compares the figures with what the machines must reach, and keeps all that the benchmarks print in .pulumi/evidence/.

    Exit code 1 when a machine did not pass, 2 when one could not be measured.
    """
    loaded, _ = common.load_stack(stack)
    reports = accept_stack(stack, loaded, catalogue.load(loaded.acceptance.commands), nodes, common.progress)
    if as_json:
        click.echo(report.to_json(reports))
    else:
        click.echo("\n".join([report.as_table(reports), *report.problems(reports)]))
    if any(not item.passed and not item.error for item in reports):
        sys.exit(1)
    if any(item.error for item in reports):
        sys.exit(2)


@dataclass(frozen=True)
class Candidate:
    """A machine to measure: its stack, how to reach it, the image and the benchmarks."""

    stack: str
    target: ssh.Target
    image: str
    catalogue: Catalogue


def candidates(stack: str, hosts: State, names: Sequence[str], image: str, catalogue: Catalogue) -> list[Candidate]:
    """Return the named machines (no name means all) whose Host is set up. Raises FleetError for another name, and without an image by digest."""
    if not IMAGE.fullmatch(image):
        raise errors.FleetError(
            doing="accept",
            seen=f"acceptance.image is {image!r}" if image else "the stack file names no acceptance.image",
            wanted="an image with the benchmarks, by digest (REPOSITORY@sha256:DIGEST)",
            next=f"`pulumi config set --path 'glm-fleet:acceptance.image' REPOSITORY@sha256:DIGEST -s {stack}`",
        )
    done = {node: outputs["node"] for node, outputs in hosts.items() if outputs.get("gpus") and outputs.get("node")}
    connections = {node: done[node] for node in sorted(done, key=table.natural_order)}
    for name in names or ([] if connections else ["any node"]):
        if name not in connections:
            near = "" if name in hosts else settings.nearest(name, list(connections))
            raise errors.FleetError(
                node=name,
                doing="accept",
                seen="no machine of this stack whose Host is done",
                wanted=", ".join(connections) or "a stack that is up",
                next=f"did you mean {near}?" if near else f"`pulumi up -s {stack}` sets it up",
            )
    return [
        Candidate(stack, ssh.Target.from_inputs({**connection, "name": node}), image, catalogue)
        for node, connection in connections.items()
        if not names or node in names
    ]


def accept(
    nodes: Sequence[Candidate], parallel: int, note: Callable[[str], None], every: float = EVERY
) -> list[report.Report]:
    """Measure the nodes, `parallel` at once. `note` gets a line when one ends, and every `every` seconds a line on those that run."""
    stop = threading.Event()
    at_work: dict[str, str] = {}

    def measure_node(node: Candidate) -> report.Report:
        name = node.target.name
        try:
            result = measure(node, functools.partial(at_work.__setitem__, name), stop)
        except errors.FleetError as error:
            result = report.Report(name, error=str(error))
        at_work.pop(name, None)
        note(f"{name}: {report.summary(result)}")
        return result

    with futures.ThreadPoolExecutor(max(1, min(parallel, len(nodes)))) as pool:
        running = [pool.submit(measure_node, node) for node in nodes]
        try:
            while waiting := futures.wait(running, timeout=every).not_done:
                note(progress_line(dict(at_work), len(nodes) - len(waiting), len(nodes)))
        finally:
            stop.set()  # on ^C the running ones end within seconds, and the others do not start
    return [ended.result() for ended in running]


def progress_line(at_work: Mapping[str, str], done: int, of: int) -> str:
    """Return the progress of all nodes as one line."""
    shown = [f"{name}: {text}" for name, text in list(at_work.items())[:3]]
    more = [f"and {len(at_work) - 3} more"] if at_work and len(at_work) > 3 else []
    return "; ".join([f"{done} of {of} done", *shown, *more])


def measure(node: Candidate, note: Callable[[str], None], stop: threading.Event) -> report.Report:
    """Run all benchmarks on one node, write their output to a file and return the report. Raises FleetError when nothing could be measured."""
    name, stamp = node.target.name, time.strftime("%Y%m%d-%H%M%S")
    if stop.is_set():
        raise errors.Cancelled(node=name, doing="accept", seen="cancelled")
    job = converge.Job(
        target=node.target,
        playbook=base.ROOT / "playbooks" / "acceptance.yml",
        variables=variables(node),
        log=base.state_dir() / "logs" / f"{node.stack}-accept-{name}-{stamp}.log",
        timeout=PULL + sum(benchmark.timeout + 60 for benchmark in node.catalogue.benchmarks),
        next_step="`fleet accept` starts again",
    )
    outcome = converge.converge(job, lambda progress: note(progress.text), stop)
    try:
        results = reply.check(outcome.results.get("fleet_acceptance") or {}, RESULTS)
    except reply.Unreadable as error:
        after = f"see {job.log}; find out what answers there: {node.target.login}"
        raise reply.command_failed(error, name, "read what the benchmarks printed", after) from None
    runs = {key: evaluate.BenchmarkRun.from_json(value) for key, value in (results.get("ran") or {}).items()}
    result = report.Report(
        name,
        evaluate.evaluate(node.catalogue.benchmarks, runs),
        str(base.state_dir() / "evidence" / node.stack / f"accept-{name}-{stamp}.txt"),
        stays=list(results.get("stays") or ()),
    )
    write_evidence(result, node, runs, stamp)
    return result


def variables(node: Candidate) -> dict[str, Any]:
    """Return the variables of playbooks/acceptance.yml."""
    return {
        "acceptance_image": node.image,
        "acceptance_holds": node.catalogue.holds.model_dump(),
        "acceptance_options": list(node.catalogue.options),
        "acceptance_benchmarks": [
            {"name": benchmark.name, "command": list(benchmark.command), "timeout": benchmark.timeout}
            for benchmark in node.catalogue.benchmarks
        ],
    }


def write_evidence(
    result: report.Report, node: Candidate, runs: Mapping[str, evaluate.BenchmarkRun], stamp: str
) -> None:
    """Write the table and the whole output of the benchmarks into the evidence file."""
    file = Path(result.evidence)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(_lines(result, node, runs, stamp)))


def _lines(
    result: report.Report, node: Candidate, runs: Mapping[str, evaluate.BenchmarkRun], stamp: str
) -> Iterator[str]:
    holds = node.catalogue.holds
    yield f"{result.node} of stack {node.stack}, {stamp}, image {node.image}"
    yield f"thresholds of {node.catalogue.checked} for {holds.gpus} {holds.product}: {node.catalogue.guide}"
    yield ""
    yield report.as_table([result])
    for benchmark in node.catalogue.benchmarks:
        yield ""
        yield f"===== {benchmark.name}: {shlex.join(benchmark.command)}"
        if run := runs.get(benchmark.name):
            end = "ended after its timeout" if run.timed_out else f"exit code {run.rc}"
            yield f"===== {end}, {run.seconds:.0f} s; all that it printed:"
            yield run.output


def accept_stack(
    stack: str, loaded: settings.Settings, catalogue: Catalogue, names: Sequence[str], note: Callable[[str], None]
) -> list[report.Report]:
    """Read the stack's state and measure its machines."""
    hosts = stack_outputs.deployed(stack).get("Host") or {}
    nodes = candidates(stack, hosts, names, mirrors.mirrored_image(loaded.mirrors, loaded.acceptance.image), catalogue)
    return accept(nodes, loaded.parallel, note)
