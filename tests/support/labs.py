"""Labs of the tests: a site and bare nodes under a name of their own, beside the user's lab.

Needs a Docker Engine and the lab's images (lab.build makes what is missing). Called by the fixtures of tests/machine and tests/roles.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from fleet import ssh
from lab import machine, site

GPUS = 8  # stand-ins that each node shows
BOOT = 120  # seconds until a node's sshd must answer


@dataclasses.dataclass(frozen=True)
class Lab:
    """A lab that is up: its nodes by name, and the role variables of its site for all of them."""

    name: str
    nodes: dict[str, ssh.Target]
    vars: dict[str, Any]
    folder: pathlib.Path  # its keys


def bare(lab: str, name: str, system: str, folder: pathlib.Path) -> ssh.Target:
    """Make a bare node in a lab that is up, and wait until it answers."""
    node = ssh.Target.from_inputs({"name": name, **machine.create(lab, name, system, GPUS, folder)})
    ssh.wait(node, BOOT, lambda _text: None)
    return node


@contextlib.contextmanager
def stand(name: str, systems: Mapping[str, str], folder: pathlib.Path) -> Iterator[Lab]:
    """Make a lab with nodes {name: system}, and remove it at the end; first remove what an earlier run left."""
    site.remove(name, folder)
    try:
        site_inputs = site.create(name, list(systems.values()), folder)
        nodes = {node: bare(name, node, system, folder) for node, system in systems.items()}
        yield Lab(name, nodes, site_inputs["vars"], folder)
    finally:
        site.remove(name, folder)
