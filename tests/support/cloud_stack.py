"""A stack with machines of two sources, in a copy of the project: a lab node that exists already, and droplets of the lab's cloud."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab import machine, site
from lab.cloud import api
from tests.support.e2e import copy_project
from tests.support.environment import expect_success, forget_secrets, user_environment
from tests.support.pulumi_project import with_cloud

LAB, STACK = "glm-cloud", "cloud"
# All machines go as far as SSH, one droplet through the roles of Host, and in one test to its probes.
SERVES = ("**:Image::**", "**:Weights::**", "**:Serving::**")
LEFT_OUT = (*SERVES, "**:Host::bare-1", "**:Host::do-2")
BARE = tuple(f"**:{kind}::bare-1" for kind in ("Host", "Image", "Weights", "Serving"))


class CloudStack:
    """The stack, in a copy of the project whose plugin digitalocean is the lab's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        copy_project(home)
        forget_secrets(home)
        with_cloud(home)
        self.env = {**user_environment(home), "FLEET_LAB_CLOUD": LAB, "NO_COLOR": "1"}
        self.folder = home / ".pulumi" / "lab" / LAB
        site_inputs = site.create(LAB, ["debian-12"], self.folder)
        node = machine.create(LAB, "bare-1", "debian-12", 8, self.folder)
        self.ssh = {
            "source": "ssh",
            "defaults": {"identity": node["identity"]},
            "machines": {"bare-1": {"address": node["address"], "host_key": node["host_key"]}},
        }
        self.pool = {
            "source": "digitalocean",
            "region": api.REGION,
            "size": "gpu-mi300x8-1536gb",
            "image": 2404,
            "keys": [Path(f"{node['identity']}.pub").read_text().strip()],
            "identity": node["identity"],
            "ssh_from": [site_inputs["subnet"]],
            "wait": 240,
            "builder": "do-1",
        }
        vars = yaml.safe_load((home / "stacks" / "Pulumi.lab.yaml").read_text())["config"]["glm-fleet:vars"]
        self.file = home / "stacks" / f"Pulumi.{STACK}.yaml"
        self.file.write_text(yaml.safe_dump({"config": {"glm-fleet:vars": {**vars, **site_inputs["vars"]}}}))
        self.configure({"do-1": {}})
        expect_success(self.run("bootstrap/stack.sh", STACK))
        expect_success(self.run("pulumi", "config", "set", "--secret", "digitalocean:token", api.TOKEN, "-s", STACK))

    def configure(self, droplets: Mapping[str, Any], release: Mapping[str, str] | None = None, **other: Any) -> None:
        """Write the machines into the stack file."""
        stack = yaml.safe_load(self.file.read_text())
        stack["config"]["glm-fleet:nodes"] = [self.ssh, {**self.pool, **other, "machines": dict(droplets)}]
        stack["config"]["glm-fleet:release"] = dict(release or {})
        self.file.write_text(yaml.safe_dump(stack))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would; both streams in one output."""
        return subprocess.run(
            command, cwd=self.home, env=self.env, text=True, timeout=900, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip

    def up(self, *more: str, without: Sequence[str] = LEFT_OUT) -> subprocess.CompletedProcess[str]:
        left_out = [part for glob in without for part in ("--exclude", glob)]
        return self.run("pulumi", "up", "--yes", "--skip-preview", "-s", STACK, "--color", "never", *left_out, *more)

    def state(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the resources of one kind in the state, by name."""
        resources = json.loads(self.run("pulumi", "stack", "export", "-s", STACK).stdout)["deployment"]["resources"]
        return {item["urn"].rpartition("::")[2]: item for item in resources if item["type"].endswith(f":{kind}")}

    def on(self, node: str, command: str) -> str:
        """Run a command on a machine by `docker exec`: not by SSH, which is under test."""
        run = self.run("docker", "exec", f"{LAB}-{node}", "sh", "-c", command)
        assert run.returncode == 0, f"{node}: {command}: {run.stdout}"
        return run.stdout.strip()
