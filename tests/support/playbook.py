"""Runs a playbook on one node as a user would, and reads Ansible's JSON output.

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
    """The outcome of a playbook's run. `tasks` are (name, changed) in order, every item of a loop once."""

    rc: int
    tasks: list[tuple[str, bool]]
    message: str
    results: dict[str, Any]
    raw: str

    @property
    def changed(self) -> list[str]:
        """The names of the tasks that changed something, without the role's name."""
        return [name.partition(" : ")[2] or name for name, changed in self.tasks if changed]


class RunningPlaybook:
    """A run that has not ended yet."""

    def __init__(
        self,
        node: ssh.Target,
        book: str,
        variables: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        check: bool = False,
    ) -> None:
        """Start one of playbooks/, or a single role by its name (role-NAME where a playbook has it), with these role variables."""
        self.folder = tempfile.TemporaryDirectory(prefix="roles-")
        here = pathlib.Path(self.folder.name)
        hosts = (f"[{node.address}]:{node.port}", node.address)
        (here / "known_hosts").write_text("".join(f"{host} {node.host_key}\n" for host in hosts))
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
        own = (ROOT / "playbooks" / f"{book}.yml").exists()
        path = ROOT / "playbooks" / f"{book}.yml" if own else ONE_ROLE
        program = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
        command = [program, "-i", str(here / "inventory"), str(path), *(["--check", "--diff"] if check else [])]
        command += ["-e", f"@{here / 'vars.json'}", "-e", f"role={book.removeprefix('role-')}"]
        own_environment = {**os.environ, **ansible, **(environment or {})}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own_environment, cwd=here
        )

    def end(self) -> Run:
        out, problems = self.process.communicate(timeout=900)
        self.folder.cleanup()
        try:
            report = json.loads(out[out.index("{\n") :])
        except ValueError:
            raise AssertionError(f"ansible-playbook printed no JSON:\n{out}\n{problems}") from None
        tasks, message = [], ""
        for play in report["plays"]:
            for task in play["tasks"]:
                for result in task["hosts"].values():
                    tasks.append((task["task"]["name"], bool(result.get("changed"))))
                    if result.get("failed") and "until" not in result:
                        message = str(result.get("msg", ""))
        return Run(self.process.returncode, tasks, message, report.get("global_custom_stats", {}), out)


def run(
    node: ssh.Target,
    book: str,
    variables: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    check: bool = False,
) -> Run:
    return RunningPlaybook(node, book, variables, environment, check).end()
