"""Gateways without containers: each machine is a mount namespace with folders and users of its own, all share one loopback.

The configurations are the role's own templates, rendered by Ansible; `systemctl` is a stand-in that runs what the units run, as their users.
Needs root, haproxy and dehydrated. Called by tests/machine/test_acme.py.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
ROLE = ROOT / "roles" / "gateway"
CONTROL = "/usr/local/lib/fleet"
# What a machine has of its own.
FOLDERS = ("/etc", "/var/lib", "/usr/local/lib")
# A unit's programs: `systemctl restart fleet-acme.service`, `reload` and `is-active` of fleet-gateway.
SYSTEMCTL = """#!/bin/sh
case "$*" in
  "is-active --quiet fleet-gateway") test -s /run/fleet-gateway/pid ;;
  "reload fleet-gateway")
    MAINPID=$(head -n1 /run/fleet-gateway/pid) setpriv --reuid=fleet-gateway --regid=fleet-gateway --clear-groups CONTROL/proxy-control gateway reload ;;
  "restart fleet-acme.service")
    setpriv --reuid=fleet-acme --regid=fleet-acme --clear-groups python3 CONTROL/acme-control ask && python3 CONTROL/acme-control install ;;
  *) echo "no such command: $*" >&2; exit 1 ;;
esac
"""


@dataclasses.dataclass
class Machine:
    """One machine: the process that holds its namespaces, and a folder outside of them."""

    holder: subprocess.Popen[bytes]
    folder: pathlib.Path
    children: list[subprocess.Popen[bytes]]

    @property
    def enter(self) -> list[str]:
        """The beginning of a command that runs there."""
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--"]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ACME_PATIENCE": "1",
            "HOME": "/nonexistent",
        }

    def run(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell command there."""
        shell = [*self.enter, "bash", "-ceu", command]
        done = subprocess.run(shell, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done

    def start(
        self, *command: str, log: pathlib.Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program there."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*self.enter, *command], env={**self.environment, **(environment or {})}, stdout=file, stderr=file
            )
        self.children.append(process)
        return process

    def wait(self, command: str, seconds: float = 20) -> None:
        """Wait until a shell command succeeds there."""
        end = time.monotonic() + seconds
        while (done := self.run(command, check=False)).returncode:
            assert time.monotonic() < end, f"{command}\n{done.stdout}{done.stderr}"
            time.sleep(0.1)

    def write(self, path: str, content: str, group: str, mode: int = 0o640) -> None:
        """Write a file there, of root and a group."""
        draft = self.folder / "draft"
        draft.write_text(content)
        self.run(f"install -D -o root -g {group} -m {mode:o} {draft} {path}")

    def control(self, verb: str) -> dict[str, Any]:
        """Return what acme-control prints."""
        reply: dict[str, Any] = json.loads(self.run(f"python3 {CONTROL}/acme-control {verb}").stdout)
        return reply

    def end(self) -> None:
        """End what runs there."""
        for process in [*self.children[::-1], self.holder]:
            process.terminate()
            process.wait(20)


def machine(folder: pathlib.Path, hosts: str, beside: Machine | None = None) -> Machine:
    """Make a machine whose /etc/hosts has these lines, on the network of another one."""
    folder.mkdir()
    (folder / "bin").mkdir()
    (folder / "bin" / "systemctl").write_text(SYSTEMCTL.replace("CONTROL", CONTROL))
    (folder / "bin" / "systemctl").chmod(0o755)
    own = ["unshare", "--mount", *([] if beside else ["--net"]), "sleep", "infinity"]
    enter = ["nsenter", f"--target={beside.holder.pid}", "--net", "--"] if beside else []
    made = Machine(subprocess.Popen([*enter, *own]), folder, [])
    layers = folder / "layers"
    layers.mkdir()
    steps = ["ip link set lo up", f"mount -t tmpfs layers {layers}"]
    for path in FOLDERS:
        upper, work = (layers / f"{path.replace('/', '-')}-{part}" for part in ("upper", "work"))
        options = f"lowerdir={path},upperdir={upper},workdir={work}"
        steps += [f"mkdir {upper} {work}", f"mount -t overlay layer -o {options} {path}"]
    steps += ["mount -t tmpfs own /run", f"printf '%s' '{hosts}' >/etc/hosts"]
    for user in ("fleet-gateway", "fleet-proxy", "fleet-acme"):
        steps += [f"useradd --system --user-group {user}", f"install -d -o {user} -g {user} -m 700 /var/lib/{user}"]
        steps += [f"install -d -o {user} -g {user} -m 755 /run/{user}"]
    end = time.monotonic() + 10  # nsenter may be faster than unshare
    while pathlib.Path(f"/proc/{made.holder.pid}/ns/mnt").readlink() == pathlib.Path("/proc/self/ns/mnt").readlink():
        assert time.monotonic() < end
    made.run("; ".join(steps))
    return made


def rendered(templates: Sequence[str], variables: Mapping[str, Any], folder: pathlib.Path) -> dict[str, str]:
    """Return templates of the role with its defaults and internal variables, by name."""
    copies = [
        {"ansible.builtin.template": {"src": str(ROLE / "templates" / name), "dest": str(folder)}} for name in templates
    ]
    files = [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")]
    play = {"hosts": "localhost", "gather_facts": False, "vars_files": files, "tasks": copies}
    (folder / "render.json").write_text(json.dumps([play]))
    (folder / "variables.json").write_text(json.dumps(dict(variables)))
    ansible = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
    python = f"ansible_python_interpreter={sys.executable}"
    own = f"@{folder / 'variables.json'}"
    command = [ansible, "-i", "localhost,", "-c", "local", "-e", python, "-e", own, str(folder / "render.json")]
    done = subprocess.run(command, cwd=ROLE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: (folder / name).read_text() for name in templates}
