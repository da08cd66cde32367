"""Own machines of a lab as members of one cluster: bare nodes, the packages and images of their site, the role's variables, what their API server says.

Needs a Docker Engine and the programs of lab.kubernetes.build. Used by the long tests of tests/kubernetes.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet import ssh
from fleet.managed import membership
from lab import site
from lab.kubernetes import build, own_cluster
from tests.support import labs

PLANE = "cp-1"


@dataclasses.dataclass(frozen=True)
class Machines:
    """The machines of a lab by name, and the variables of the role kubernetes for each; the control plane is `cp-1`.

    `site` has what the lab's site offers, as variables of the other roles.
    """

    nodes: dict[str, ssh.Target]
    variables: dict[str, dict[str, Any]]
    site: dict[str, Any]

    def sh(self, name: str, command: str, stdin: str = "") -> str:
        with ssh.connect(self.nodes[name]) as connection:
            return connection.run(command, stdin=stdin).stdout

    def kubectl(self, *words: str, stdin: str = "") -> Any:
        """Ask the API server as its administrator, on the control plane; return what it prints, read as JSON where it is."""
        text = self.sh(PLANE, f"kubectl --kubeconfig={membership.ADMIN} {' '.join(words)}", stdin)
        return json.loads(text) if text.startswith("{") else text


@contextlib.contextmanager
def machines(
    lab: str, gpus: Mapping[str, int], folder: Path, modules: Sequence[str] = (build.PRESENT,)
) -> Iterator[Machines]:
    """Make bare machines {name: its GPUs} and a site with these versions of Kubernetes; remove all of it at the end."""
    site.remove(lab, folder)
    try:
        supplied = site.create(lab, ["ubuntu-24.04", "kubernetes"], folder)["vars"]
        common = own_cluster.supply(lab, supplied["docker_registry_certificates"][site.REGISTRY], modules)
        nodes = {name: _bare(lab, name, number, folder) for name, number in gpus.items()}
        variables = {
            name: {
                **common,
                "kubernetes_name": name,
                "kubernetes_address": node.address,
                "kubernetes_gpus": gpus[name],
                "kubernetes_endpoint": f"{nodes[PLANE].address}:6443",
                "kubernetes_part": "first" if name == PLANE else "worker",
            }
            for name, node in nodes.items()
        }
        yield Machines(nodes, variables, supplied)
    finally:
        site.remove(lab, folder)


def _bare(lab: str, name: str, gpus: int, folder: Path) -> ssh.Target:
    node = ssh.Target.from_inputs({"name": name, **own_cluster.create_node(lab, name, gpus, folder)})
    ssh.wait(node, labs.BOOT, lambda _text: None)
    return node
