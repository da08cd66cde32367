"""Measures machines: playbooks/acceptance.yml on each by fleet.ansible.converge, several at once; what came back is judged and kept.

Owns which machines may be measured, how many at once, and the files in .pulumi/evidence/. A machine that cannot be measured does not stop
the others. Needs a stack that is up. Called by fleet.cli.main.
"""

import functools
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import errors, ssh, validators
from fleet.acceptance import judge
from fleet.acceptance.catalogue import Catalogue
from fleet.ansible import converge
from fleet.cli import accept_report as report
from fleet.cli import stack_outputs, table
from fleet.provider import base
from fleet.ssh import reply
from fleet.stack import mirrors, settings

EVERY = 10.0  # seconds between two lines of progress
PULL = 3600  # seconds for the image, and what else the playbook does beside the benchmarks
IMAGE = re.compile(r"(.+@)?sha256:[0-9a-f]{64}")

# What playbooks/files/acceptance.py tells of each benchmark, and of what it left.
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


@dataclass(frozen=True)
class Wanted:
    """What is measured on one machine, and under which name of a stack that is kept."""

    stack: str
    target: ssh.Target
    image: str
    catalogue: Catalogue


def wanted(stack: str, hosts: State, names: Sequence[str], image: str, catalogue: Catalogue) -> list[Wanted]:
    """Return the machines of those names (none means all) whose Host is done; FleetError for another name, or without an image by digest."""
    if not IMAGE.fullmatch(image):
        raise errors.FleetError(
            doing="accept",
            seen=f"acceptance.image is {image!r}" if image else "the stack file names no acceptance.image",
            wanted="an image with the benchmarks, by digest (REPOSITORY@sha256:DIGEST)",
            next=f"`pulumi config set --path 'glm-fleet:acceptance.image' REPOSITORY@sha256:DIGEST -s {stack}`",
        )
    done = {node: found["node"] for node, found in hosts.items() if found.get("gpus") and found.get("node")}
    known = {node: done[node] for node in sorted(done, key=table.counted)}
    for name in names or ([] if known else ["any node"]):
        if name not in known:
            near = "" if name in hosts else settings.nearest(name, list(known))
            raise errors.FleetError(
                node=name,
                doing="accept",
                seen="no machine of this stack whose Host is done",
                wanted=", ".join(known) or "a stack that is up",
                next=f"did you mean {near}?" if near else f"`pulumi up -s {stack}` sets it up",
            )
    return [
        Wanted(stack, ssh.Target.from_inputs({**reached, "name": node}), image, catalogue)
        for node, reached in known.items()
        if not names or node in names
    ]


def accept(
    nodes: Sequence[Wanted], parallel: int, note: Callable[[str], None], every: float = EVERY
) -> list[report.Report]:
    """Measure the nodes, `parallel` of them at once; `note` gets a line when one is done, and of all at work every so many seconds."""
    stop = threading.Event()
    at_work: dict[str, str] = {}

    def one(node: Wanted) -> report.Report:
        name = node.target.name
        try:
            found = measure(node, functools.partial(at_work.__setitem__, name), stop)
        except errors.FleetError as error:
            found = report.Report(name, error=str(error))
        at_work.pop(name, None)
        note(f"{name}: {report.summary(found)}")
        return found

    with futures.ThreadPoolExecutor(max(1, min(parallel, len(nodes)))) as pool:
        running = [pool.submit(one, node) for node in nodes]
        try:
            while waiting := futures.wait(running, timeout=every).not_done:
                note(said(dict(at_work), len(nodes) - len(waiting), len(nodes)))
        finally:
            stop.set()  # on ^C those at work end within seconds, and the others do not begin
    return [ended.result() for ended in running]


def said(at_work: Mapping[str, str], done: int, of: int) -> str:
    """Return how far all nodes are as one line."""
    shown = [f"{name}: {text}" for name, text in list(at_work.items())[:3]]
    more = [f"and {len(at_work) - 3} more"] if at_work and len(at_work) > 3 else []
    return "; ".join([f"{done} of {of} done", *shown, *more])


def measure(node: Wanted, tell: Callable[[str], None], stop: threading.Event) -> report.Report:
    """Run all benchmarks on one node, judge and keep what they printed. Raises FleetError where nothing could be measured."""
    name, stamp = node.target.name, time.strftime("%Y%m%d-%H%M%S")
    if stop.is_set():
        raise errors.Cancelled(node=name, doing="accept", seen="cancelled")
    job = converge.Job(
        target=node.target,
        playbook=base.ROOT / "playbooks" / "acceptance.yml",
        variables=variables(node),
        log=base.state_dir() / "logs" / f"{node.stack}-accept-{name}-{stamp}.log",
        timeout=PULL + sum(one.timeout + 60 for one in node.catalogue.benchmarks),
        next_step="`fleet accept` begins anew",
    )
    outcome = converge.converge(job, lambda told: tell(told.text), stop)
    try:
        told = reply.taken(outcome.results.get("fleet_acceptance") or {}, RESULTS)
    except reply.Unreadable as error:
        after = f"see {job.log}; find out what answers there: {node.target.login}"
        raise reply.failed(error, name, "read what the benchmarks printed", after) from None
    ran = {key: judge.Ran.from_json(value) for key, value in (told.get("ran") or {}).items()}
    found = report.Report(
        name,
        judge.judge(node.catalogue.benchmarks, ran),
        str(base.state_dir() / "evidence" / node.stack / f"accept-{name}-{stamp}.txt"),
        stays=list(told.get("stays") or ()),
    )
    keep(found, node, ran, stamp)
    return found


def variables(node: Wanted) -> dict[str, Any]:
    """Return the variables of playbooks/acceptance.yml."""
    return {
        "acceptance_image": node.image,
        "acceptance_holds": node.catalogue.holds.model_dump(),
        "acceptance_options": list(node.catalogue.options),
        "acceptance_benchmarks": [
            {"name": one.name, "command": list(one.command), "timeout": one.timeout}
            for one in node.catalogue.benchmarks
        ],
    }


def keep(found: report.Report, node: Wanted, ran: Mapping[str, judge.Ran], stamp: str) -> None:
    """Write the table and, below it, all that the benchmarks printed."""
    file = Path(found.evidence)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(_lines(found, node, ran, stamp)))


def _lines(found: report.Report, node: Wanted, ran: Mapping[str, judge.Ran], stamp: str) -> Iterator[str]:
    holds = node.catalogue.holds
    yield f"{found.node} of stack {node.stack}, {stamp}, image {node.image}"
    yield f"thresholds of {node.catalogue.checked} for {holds.gpus} {holds.product}: {node.catalogue.guide}"
    yield ""
    yield report.as_table([found])
    for one in node.catalogue.benchmarks:
        ended = ran.get(one.name)
        yield ""
        yield f"===== {one.name}: {shlex.join(one.command)}"
        if ended:
            end = "ended after its timeout" if ended.timed_out else f"exit code {ended.rc}"
            yield f"===== {end}, {ended.seconds:.0f} s; all that it printed:"
            yield ended.output


def look(
    stack: str, found: settings.Settings, catalogue: Catalogue, names: Sequence[str], note: Callable[[str], None]
) -> list[report.Report]:
    """Read the stack's state and measure its machines."""
    hosts = stack_outputs.deployed(stack).get("Host") or {}
    nodes = wanted(stack, hosts, names, mirrors.image(found.mirrors, found.acceptance.image), catalogue)
    return accept(nodes, found.parallel, note)
