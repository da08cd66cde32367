"""The stack prod on a cluster, in a project of its own: the real Pulumi engine, the stand-in of the Kubernetes plugin, our provider.

Owns one temporary folder. Needs `pulumi` on PATH and an API server (api_server.py). Used by tests/kubernetes.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support import cluster_stack, pulumi_project
from tests.support.api_server import ApiServer
from tests.support.programs import write_program
from tests.support.pulumi_project import PYTHON, ROOT

STANDIN = ROOT / "lab" / "kubernetes" / "plugin"
SECONDS = 240


class Project:
    """A stack on the cluster of an API server, whose namespaces begin with `namespace`. `context` is of its kubeconfig."""

    def __init__(
        self,
        folder: Path,
        server: ApiServer,
        namespace: str,
        context: str = "admin",
        release: Sequence[str] = (),
        **cluster: Any,
    ) -> None:
        self.folder, self.server = folder, server
        pulumi_project.link_project(folder, "Pulumi.yaml")
        (folder / "standin").mkdir()
        write_program(folder / "standin" / "pulumi-resource-fleet", f'{PYTHON} -u -m tests.support.cluster_plugin "$@"')
        text = (ROOT / "Pulumi.yaml").read_text().replace("./fleet/provider", "./standin")
        (folder / "Pulumi.yaml").write_text(text)
        (folder / "state").mkdir()
        self.environment = {**pulumi_project.environment_of(folder / "state")}
        self.environment["PATH"] = f"{STANDIN}:{self.environment['PATH']}"
        own = {"context": context, "kubeconfig": str(server.kubeconfig), "namespace": namespace, **cluster}
        self.file = folder / "stacks" / "Pulumi.prod.yaml"
        flags = yaml.safe_load(self.file.read_text())["config"]["glm-fleet:vars"]["vllm_flags"]
        variables = {"vllm_flags": {**flags, "tensor-parallel-size": 8}}
        keys = {**cluster_stack.keys(variables, **own), "release": dict.fromkeys(release, "of a test")}
        self.file.write_text(yaml.safe_dump({"config": {f"glm-fleet:{key}": value for key, value in keys.items()}}))
        for command in (("stack", "init", "prod"), ("config", "set", "--secret", "vllm_api_key", cluster_stack.KEY)):
            self.run(*command, *(("-s", "prod") if command[0] == "config" else ())).check_returncode()

    def set(self, path: str, value: str) -> None:
        """Change a key of the stack file."""
        self.run("config", "set", "--path", f"glm-fleet:{path}", value, "-s", "prod").check_returncode()

    def change(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run preview, up, refresh or destroy."""
        yes = () if verb == "preview" else ("--yes", "--skip-preview")
        return self.run(verb, *yes, *options, "-s", "prod", "--color", "never")

    def state(self) -> str:
        """Return the state as Pulumi keeps it, as text."""
        return self.run("stack", "export", "-s", "prod").stdout

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb of `fleet` on the stack."""
        command = [str(ROOT / ".venv" / "bin" / "fleet"), *arguments, "-s", "prod"]
        options: Any = {"cwd": self.folder, "env": self.environment, "capture_output": True, "text": True}
        return subprocess.run(command, timeout=SECONDS, check=False, **options)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pulumi in the project."""
        return subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
