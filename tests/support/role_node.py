"""A node for the playbooks of a role test, and its role variables."""

import dataclasses
import json
import subprocess
from typing import Any

import pytest
import testinfra
import yaml

from fleet import ssh
from tests.support import labs, playbook

# Role variables of every test: a kernel without headers in apt, a platform that keeps the clock.
COMMON = {
    "host_time_service": "",
    "host_kernel_arguments": ["pci=realloc=off", "iommu=pt", "pci=bfsort"],
    "rocm_headers": False,
    "rocm_repository_url": "http://packages.lab.internal",
    "rocm_driver_repository_url": "",
    "rocm_gpus": labs.GPUS,
}
# The variables of image, weights and serving in the lab's stack (stacks/Pulumi.lab.yaml).
STACK = yaml.safe_load((playbook.ROOT / "stacks" / "Pulumi.lab.yaml").read_text())["config"]["glm-fleet:vars"]
PREFIXES = ("transformers_", "weights_", "vllm_")
SERVED: dict[str, Any] = {name: value for name, value in STACK.items() if name.startswith(PREFIXES)}
KEY = "key-of-the-role-tests-0123456789"


@dataclasses.dataclass(frozen=True)
class Runs:
    """One playbook on one node: in check mode, twice for real, in check mode; and the paths that the first check has left."""

    check: playbook.Run
    left_by_check: list[str]
    first: playbook.Run
    second: playbook.Run
    last_check: playbook.Run
    variables: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Place:
    """A node, its testinfra host, and its role variables."""

    node: ssh.Target
    host: Any
    vars: dict[str, Any]

    def sh(self, command: str, stdin: str = "") -> str:
        """Run a command as root on the node, which must succeed; return its output."""
        run = subprocess.run([*self.ssh, command], input=stdin, capture_output=True, text=True)
        assert run.returncode == 0, f"{command}: {run.stderr or run.stdout}"
        return run.stdout

    @property
    def ssh(self) -> list[str]:
        known_hosts = f"UserKnownHostsFile={self.host.backend.known_hosts}"
        options = [f"-o{option}" for option in (known_hosts, "GlobalKnownHostsFile=/dev/null", "IdentitiesOnly=yes")]
        port, place = str(self.node.port), f"{self.node.user}@{self.node.address}"
        return ["ssh", "-q", "-p", port, *options, "-i", self.node.identity, place]

    def run(
        self, book: str, environment: dict[str, str] | None = None, check: bool = False, **variables: Any
    ) -> playbook.Run:
        return playbook.run(self.node, book, {**self.vars, **variables}, environment or {"VLLM_API_KEY": KEY}, check)

    def four(self, book: str, paths: list[str], **variables: Any) -> Runs:
        """Run it in check mode, twice for real, in check mode. The role makes `paths`; a check must make none of them."""
        check = self.run(book, check=True, **variables)
        left = self.sh(f"ls -d {' '.join(paths)} 2>/dev/null || true").split()
        first, second = self.run(book, **variables), self.run(book, **variables)
        return Runs(check, left, first, second, self.run(book, check=True, **variables), variables)


UNIT, SOCKET = "glm-0.service", "/run/fleet/glm-0/sock"


def active(place: Place) -> bool:
    return place.sh(f"systemctl is-active {UNIT} || true").strip() == "active"


def container(place: Place) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(place.sh("docker inspect glm-0"))[0]
    return facts


def paths(served: Runs) -> dict[str, Any]:
    """Return the image and the model that the program passes on."""
    return {name: served.variables[name] for name in ("vllm_image", "vllm_model_dir", "vllm_model_manifest")}


def place_of(lab: labs.Lab, name: str, folders: pytest.TempPathFactory) -> Place:
    """Return a node of a lab, as a test reaches it, and the variables of its roles."""
    node = lab.nodes[name]
    folder = folders.mktemp(name)
    known_hosts, config = folder / "known_hosts", folder / "ssh_config"
    known_hosts.write_text(f"{node.address} {node.host_key}\n[{node.address}]:{node.port} {node.host_key}\n")
    options = (f"UserKnownHostsFile {known_hosts}", "GlobalKnownHostsFile /dev/null", "IdentitiesOnly yes")
    config.write_text("\n  ".join(["Host *", *options]) + "\n")
    url = f"ssh://{node.user}@{node.address}:{node.port}"
    host = testinfra.get_host(url, ssh_identity_file=node.identity, ssh_config=str(config))
    host.backend.known_hosts = str(known_hosts)
    return Place(node, host, {**lab.vars, **COMMON})
