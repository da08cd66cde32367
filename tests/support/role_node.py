"""A node on which a test of the roles runs playbooks, and the role variables that hold there."""

import dataclasses
import json
import subprocess
from typing import Any

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
# What the lab's stack says of image, weights and serving (stacks/Pulumi.lab.yaml).
SERVED: dict[str, Any] = {
    name: value
    for name, value in yaml.safe_load((playbook.ROOT / "stacks" / "Pulumi.lab.yaml").read_text())["config"][
        "glm-fleet:vars"
    ].items()
    if name.startswith(("transformers_", "weights_", "vllm_"))
}
KEY = "key-of-the-role-tests-0123456789"


@dataclasses.dataclass(frozen=True)
class Runs:
    """One playbook on one node: told first, done, done again, told again; and what was there after the first telling."""

    told: playbook.Run
    there_after_told: list[str]
    first: playbook.Run
    second: playbook.Run
    told_again: playbook.Run
    variables: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Place:
    """A node, how to ask it (testinfra), and the role variables that hold on it."""

    node: ssh.Target
    host: Any
    vars: dict[str, Any]

    def sh(self, command: str, stdin: str = "") -> str:
        """Run a command as root on the node; its output, or an AssertionError with what it said."""
        done = subprocess.run([*self.ssh, command], input=stdin, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
        return done.stdout

    @property
    def ssh(self) -> list[str]:
        known = f"UserKnownHostsFile={self.host.backend.known_hosts}"
        options = [
            "-o",
            known,
            "-o",
            "GlobalKnownHostsFile=/dev/null",
            "-o",
            "IdentitiesOnly=yes",
            "-i",
            self.node.identity,
        ]
        return ["ssh", "-q", "-p", str(self.node.port), *options, f"{self.node.user}@{self.node.address}"]

    def run(
        self, book: str, environment: dict[str, str] | None = None, check: bool = False, **variables: Any
    ) -> playbook.Run:
        return playbook.run(self.node, book, {**self.vars, **variables}, environment or {"VLLM_API_KEY": KEY}, check)

    def four(self, book: str, paths: list[str], **variables: Any) -> Runs:
        """Told, done, done again, told again. `paths` are what the role makes: none may be there after it was only told."""
        told = self.run(book, check=True, **variables)
        there = self.sh(f"ls -d {' '.join(paths)} 2>/dev/null || true").split()
        first, second = self.run(book, **variables), self.run(book, **variables)
        return Runs(told, there, first, second, self.run(book, check=True, **variables), variables)


UNIT, SOCKET = "glm-0.service", "/run/fleet/glm-0/sock"


def active(place: Place) -> bool:
    return place.sh(f"systemctl is-active {UNIT} || true").strip() == "active"


def container(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.sh("docker inspect glm-0"))[0]
    return found


def paths(served: Runs) -> dict[str, Any]:
    """The image and the model that the program hands over."""
    return {name: served.variables[name] for name in ("vllm_image", "vllm_model_dir", "vllm_model_manifest")}
