"""Runs the playbooks of tests/machine/site on a node."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import ssh
from fleet.ansible import converge

SITE = Path(__file__).parents[1] / "machine" / "site"
KEY = "a-key-that-nobody-may-read"


def job(node: ssh.Target, log: Path, playbook: str = "kinds", **variables: Any) -> converge.Job:
    """Return the job of one of the playbooks in site/."""
    return converge.Job(
        target=node,
        playbook=SITE / "playbooks" / f"{playbook}.yml",
        variables={"kinds_text": "hello", "slow_does": "nothing", **variables},
        log=log,
        secrets={"VLLM_API_KEY": KEY},
        roles=(playbook,),
        timeout=300,
    )


@dataclass(frozen=True)
class Run:
    """A successful run: its job, its outcome, its notes."""

    job: converge.Job
    outcome: converge.Outcome
    notes: list[converge.Note]


def run(job: converge.Job) -> Run:
    """Run a job to its end."""
    notes: list[converge.Note] = []
    return Run(job, converge.converge(job, notes.append, threading.Event()), notes)
