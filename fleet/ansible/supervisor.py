"""One Ansible run, in a process of its own: `python -m fleet.ansible.supervisor`, job in, events out, nothing left behind.

Reads the job as one line of JSON on stdin (converge._job), which the parent keeps open: its end, whatever ended the parent,
cancels the run. Writes events (fleet.ansible.events) as lines of JSON on stdout and Ansible's whole text to the job's log.
Needs ansible-playbook beside its own Python and ssh on PATH. Called by fleet.ansible.converge only.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, TextIO

from fleet import errors, printable, ssh
from fleet.ansible import events, run_directory

# Seconds after a cancel: for ansible-playbook to end its workers, for the ssh master, for the node to be told.
GRACE, MASTER, NODE = 3.0, 1.0, 2.0
# macOS has no C.UTF-8, and would end Ansible's workers, which are forks.
MACOS = {"LC_ALL": "en_US.UTF-8", "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
# The slice of systemd in which the roles run long work on a node (roles/long_task).
SLICE = "fleet-work.slice"


class Run:
    """The state of this process's one run."""

    def __init__(self, job: dict[str, Any], out: TextIO, log: TextIO) -> None:
        self.job, self.out, self.log = job, out, log
        self.folder = Path(job["folder"])
        self.target = ssh.Target.from_inputs(job["target"])
        self.cancelled = threading.Event()
        self.told_at: float | None = None
        self.polled = ""  # the last progress that the log has
        self.tail: deque[str] = deque(maxlen=12)
        self.secrets = [value for value in job["secrets"].values() if len(value) >= 6]

    def watch(self) -> None:
        """Cancel when the parent's end of stdin is closed: by a cancel, its exit or its death."""
        while os.read(0, 4096):
            pass
        self.cancelled.set()

    def tell(self, event: events.Event) -> None:
        """Write one event; a parent that no longer reads is a cancel."""
        try:
            self.out.write(self._scrub(json.dumps(event, default=str)) + "\n")
            self.out.flush()
        except OSError:
            self.cancelled.set()

    def handle(self, raw: dict[str, Any]) -> bool:
        """Take one event of ansible-runner: its text to the log, its essence to the parent. False: nothing is stored."""
        text = str(raw.get("stdout") or "").replace("\r", "")
        if raw.get("event") == "verbose" and text.strip():
            self.tail.append(self._scrub(text.strip()))
        event = events.distil(raw)
        if event and event["event"] == "retry":
            said = event["res"]["said"]
            text, self.polled = ("" if said == self.polled else f"  … {said}"), said
        if text.strip():
            self.log.write(printable.plain(self._scrub(text)) + "\n")
        if event:
            self.tell(event)
        return False

    def status(self, status: dict[str, Any], runner_config: Any) -> None:
        """Just before the start: remove the file in which ansible-runner kept the environment, secrets and all."""
        if status["status"] == "running":
            (Path(runner_config.artifact_dir) / "command").unlink(missing_ok=True)

    def cancel(self) -> bool:
        """Tell ansible-playbook to end, and its workers with it; True, for SIGKILL, only after a while.

        ansible-runner alone would kill the process group; workers are sessions of their own and would live on.
        """
        if not self.cancelled.is_set():
            return False
        if self.told_at is None:
            self.told_at = time.monotonic()
            for pid, command in run_directory.children():
                if "ansible-playbook" in command:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
        return time.monotonic() - self.told_at > GRACE

    def play(self) -> tuple[str, int | None]:
        """Run the playbook to its end; returns ansible-runner's status and exit code."""
        import ansible_runner

        os.environ.update(self.job["secrets"])
        runner = ansible_runner.run(
            private_data_dir=str(self.folder),
            playbook=self.job["playbook"],
            inventory=str(self._inventory()),
            envvars=_environment(self.job, self.folder, self.target),
            cmdline="--check" if self.job["check"] else None,
            settings={"pexpect_timeout": 0.1, "suppress_output_file": True},
            quiet=True,
            event_handler=self.handle,
            status_handler=self.status,
            cancel_callback=self.cancel,
        )
        return runner.status, runner.rc

    def end(self) -> None:
        """Leave nothing: the ssh master, processes of the run, on a cancel the long work on the node, the folder."""
        if (self.folder / "c").exists():
            command = ["ssh", "-F", "/dev/null", "-o", f"ControlPath={self.folder}/c", "-O", "exit", self.target.name]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=MASTER, check=False)
        run_directory.sweep(self.folder, patience=1.0)
        if self.cancelled.is_set():
            try:
                with ssh.connect(self.target, timeout=NODE) as connection:
                    connection.run(f"systemctl stop {SLICE}", timeout=NODE)
            except errors.FleetError as error:
                self.log.write(f"stop of {SLICE} on the node: {error.seen}\n")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _inventory(self) -> Path:
        """Write the inventory (0600: the folder is 0700): the node with its connection and every variable of the job.

        Ansible evaluates expressions in an inventory. Here is the one place that says which: those of the job's `variables`, no others.
        """
        target = self.target
        reach: dict[str, Any] = {
            "ansible_host": target.address,
            "ansible_port": target.port,
            "ansible_user": target.user,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        if target.identity:
            reach["ansible_ssh_private_key_file"] = str(Path(target.identity).expanduser())
        if target.become:
            reach |= {"ansible_become": True, "ansible_become_method": "ansible.builtin.sudo"}
        path = self.folder / "inventory.json"
        path.touch(0o600)
        path.write_text(
            json.dumps(
                {"all": {"hosts": {target.name: {**self.job["variables"], **inert({**self.job["data"], **reach})}}}}
            )
        )
        return path

    def _scrub(self, text: str) -> str:
        """Take secret values out of a text, should a role ever print one."""
        for secret in self.secrets:
            text = text.replace(secret, "(secret)")
        return text


def inert(value: Any) -> Any:
    """Return a value as JSON whose texts Ansible (2.19 and newer) never evaluates as templates; names in it it never does."""
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    if isinstance(value, dict):
        return {name: inert(item) for name, item in value.items()}
    if isinstance(value, list):
        return [inert(item) for item in value]
    return value


def _environment(job: dict[str, Any], folder: Path, target: ssh.Target) -> dict[str, str]:
    """Return Ansible's settings: everything of a run lies in its folder, only the pinned host key is accepted."""
    (folder / "known_hosts").write_text(ssh.known_hosts(target))
    options = {
        "ControlMaster": "auto",
        "ControlPersist": "60s",
        "ControlPath": f"{folder}/c",
        **_pinned(target, folder),
        **({"ProxyCommand": _proxy(target.bastion, folder)} if target.bastion else {}),
    }
    config = Path(job["root"]) / "ansible.cfg"
    if not config.exists():  # without a name Ansible would look for the user's own
        config = folder / "ansible.cfg"
        config.touch()
    return {
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_ROLES_PATH": f"{job['root']}/roles",
        "ANSIBLE_HOME": f"{folder}/home",
        "ANSIBLE_LOCAL_TEMP": f"{folder}/tmp",
        "ANSIBLE_DIFF_ALWAYS": "True",  # for the log, and to tell what was made from what was only changed
        "ANSIBLE_INJECT_INVOCATION": "True",  # from core 2.21 on results name no arguments else, and nothing would be declared
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_INJECT_FACT_VARS": "False",  # or `ansible_facts` in any module's answer would lie over the job's variables
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_TIMEOUT": "15",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_ARGS": shlex.join(["-F", "/dev/null", *_flags(options)]),
        **(MACOS if sys.platform == "darwin" else {"LC_ALL": "C.UTF-8"}),
    }


def _pinned(target: ssh.Target, folder: Path) -> dict[str, str]:
    """Return the options of ssh by which it accepts the pinned host key only, and asks nobody."""
    return {
        "UserKnownHostsFile": f"{folder}/known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": target.name,
        "HostKeyAlgorithms": ",".join(target.key_algorithms),
        "UpdateHostKeys": "no",
        "BatchMode": "yes",
        "ServerAliveInterval": "10",
        **({"IdentitiesOnly": "yes"} if target.identity else {}),
    }


def _proxy(bastion: ssh.Target, folder: Path) -> str:
    """Return the command that carries ssh through the bastion; ssh puts the node's address and port in."""
    identity = ["-i", str(Path(bastion.identity).expanduser())] if bastion.identity else []
    options = [*_flags({**_pinned(bastion, folder), "ConnectTimeout": "15"}), *identity]
    words = [
        "ssh",
        "-F",
        "/dev/null",
        *options,
        "-p",
        str(bastion.port),
        "-W",
        "[%h]:%p",
        f"{bastion.user}@{bastion.address}",
    ]
    return shlex.join(words)


def _flags(options: dict[str, str]) -> list[str]:
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def main() -> None:
    """Run the job of stdin; the exit code is 0 whenever the `end` event was told."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        job = json.loads(stdin.readline())
    # The events keep the real stdout to themselves; what libraries print goes to stderr, which is the log.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.umask(0o077)
    with Path(job["log"]).open("a", buffering=1) as log:
        run = Run(job, out, log)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: run.cancelled.set())
        threading.Thread(target=run.watch, daemon=True).start()
        status, rc = "failed", None
        try:
            status, rc = run.play()
        finally:
            run.end()
            run.tell(
                {
                    "event": "end",
                    "status": status,
                    "rc": rc,
                    "cancelled": run.cancelled.is_set(),
                    "tail": list(run.tail),
                }
            )


if __name__ == "__main__":
    main()
