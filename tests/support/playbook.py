"""Runs a playbook on one node as a user would, and reads what it said from Ansible's JSON output.

Owns a private folder a run (inventory, known hosts). Needs ansible-playbook beside this Python. Called by the tests of the roles.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from fleet import ssh

ROOT = pathlib.Path(__file__).parents[2]
ONE_ROLE = pathlib.Path(__file__).parents[1] / "roles" / "one-role.yml"


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run of a playbook did. `tasks` are (name, changed) in order, for every item of a loop once."""

    rc: int
    tasks: list[tuple[str, bool]]
    message: str
    results: dict[str, Any]
    raw: str

    @property
    def changed(self) -> list[str]:
        """Names of the tasks that changed something, without the role's name."""
        return [name.partition(" : ")[2] or name for name, changed in self.tasks if changed]


class Playing:
    """A run that is still going on."""

    def __init__(
        self, node: ssh.Target, book: str, variables: Mapping[str, Any], environment: Mapping[str, str], check: bool
    ) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="roles-")
        here = pathlib.Path(self.folder.name)
        (here / "known_hosts").write_text(
            f"[{node.address}]:{node.port} {node.host_key}\n{node.address} {node.host_key}\n"
        )
        options = f"ansible_host={node.address} ansible_port={node.port} ansible_user={node.user}"
        (here / "inventory").write_text(f"{node.name} {options} ansible_ssh_private_key_file={node.identity}\n")
        (here / "vars.json").write_text(json.dumps(dict(variables)))
        ssh = f"-o UserKnownHostsFile={here}/known_hosts -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
        ansible = {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_SSH_ARGS": f"-o ControlMaster=auto -o ControlPersist=30s {ssh} -o HostKeyAlgorithms=ssh-ed25519",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(here / "cp"),
        }
        path = (
            ONE_ROLE
            if book not in ("host", "image", "weights", "serving", "teardown", "acceptance")
            else ROOT / "playbooks" / f"{book}.yml"
        )
        command = [
            str(pathlib.Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            str(here / "inventory"),
            str(path),
        ]
        command += ["-e", f"@{here / 'vars.json'}", "-e", f"role={book.removeprefix('role-')}"] + (
            ["--check", "--diff"] if check else []
        )
        environment = {**os.environ, **ansible, **environment}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=here
        )

    def end(self) -> Run:
        out, problems = self.process.communicate(timeout=900)
        self.folder.cleanup()
        try:
            told = json.loads(out[out.index("{\n") :])
        except ValueError:
            raise AssertionError(f"ansible-playbook said no JSON:\n{out}\n{problems}") from None
        tasks, message = [], ""
        for play in told["plays"]:
            for task in play["tasks"]:
                for result in task["hosts"].values():
                    tasks.append((task["task"]["name"], bool(result.get("changed"))))
                    if result.get("failed") and "until" not in result:
                        message = str(result.get("msg", ""))
        return Run(self.process.returncode, tasks, message, told.get("global_custom_stats", {}), out)


def start(
    node: ssh.Target,
    book: str,
    variables: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    check: bool = False,
) -> Playing:
    """Start one of playbooks/, or a single role by its name (role-NAME where a playbook has it), with these role variables."""
    return Playing(node, book, variables, environment or {}, check)


def run(
    node: ssh.Target,
    book: str,
    variables: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    check: bool = False,
) -> Run:
    return start(node, book, variables, environment, check).end()
