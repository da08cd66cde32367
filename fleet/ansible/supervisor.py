"""Runs Ansible once, in its own process (`python -m fleet.ansible.supervisor`): reads a job, writes events, cleans up.

Reads the job as one line of JSON on stdin (converge._job). The parent keeps stdin open: when it closes, for whatever reason, the run is
cancelled. Writes events (fleet.ansible.events) as lines of JSON on stdout and Ansible's full output to the job's log.
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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from fleet import errors, printable, ssh
from fleet.ansible import events, run_directory

# Seconds after a cancel: for ansible-playbook to end its workers, for the ssh master to exit, for the node to stop its long tasks.
GRACE, MASTER, NODE = 3.0, 1.0, 2.0
# macOS has no C.UTF-8, and kills Ansible's workers, which are forks.
MACOS = {"LC_ALL": "en_US.UTF-8", "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
# The systemd slice of the long tasks that the roles start on a node (role long_task).
SLICE = "fleet-work.slice"


class Run:
    """The one run of this process, and its state."""

    def __init__(self, job: dict[str, Any], out: TextIO, log: TextIO) -> None:
        self.job, self.out, self.log = job, out, log
        self.folder = Path(job["folder"])
        self.target = ssh.Target.from_inputs(job["target"])
        self.cancelled = threading.Event()
        self.terminated_at: float | None = None
        self.last_poll = ""  # the last progress of a poll in the log
        self.tail: deque[str] = deque(maxlen=12)
        self.secrets = list(_secret_texts(job["secrets"].values()))

    def watch(self) -> None:
        """Cancel when the parent closes stdin: it cancels, exits or is killed."""
        while os.read(0, 4096):
            pass
        self.cancelled.set()

    def write_event(self, event: events.Event) -> None:
        """Write one event; cancel when the parent no longer reads."""
        try:
            self.out.write(self._scrub(json.dumps(event, default=str)) + "\n")
            self.out.flush()
        except OSError:
            self.cancelled.set()

    def handle(self, raw: dict[str, Any]) -> bool:
        """Write the text of one event of ansible-runner to the log, its reduced form to the parent. False: runner stores no file."""
        text = str(raw.get("stdout") or "").replace("\r", "")
        if raw.get("event") == "verbose" and text.strip():
            self.tail.append(self._scrub(text.strip()))
        event = events.distil(raw)
        if event and event["event"] == "retry":
            poll = event["res"]["said"]
            text, self.last_poll = ("" if poll == self.last_poll else f"  … {poll}"), poll
        if text.strip():
            self.log.write(printable.plain(self._scrub(text)) + "\n")
        if event:
            self.write_event(event)
        return False

    def status(self, status: dict[str, Any], runner_config: Any) -> None:
        """Remove, just before the start, the file in which ansible-runner stores the environment, which has the secrets."""
        if status["status"] == "running":
            (Path(runner_config.artifact_dir) / "command").unlink(missing_ok=True)

    def cancel(self) -> bool:
        """Terminate ansible-playbook, which ends its workers; return True, for SIGKILL, after GRACE seconds.

        ansible-runner alone would kill the process group; workers have their own sessions and would survive.
        """
        if not self.cancelled.is_set():
            return False
        if self.terminated_at is None:
            self.terminated_at = time.monotonic()
            for pid, command in run_directory.children():
                if "ansible-playbook" in command:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
        return time.monotonic() - self.terminated_at > GRACE

    def play(self) -> tuple[str, int | None]:
        """Run the playbook to its end; return ansible-runner's status and exit code."""
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
        """Clean up: end the ssh master, the run's processes and, after a cancel, the node's long tasks; remove the directory."""
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
        """Write the inventory, 0600: the node with its connection and every variable of the job.

        Ansible evaluates expressions in an inventory. Only this place decides which: those of the job's `variables`, no others.
        """
        target = self.target
        connection: dict[str, Any] = {
            "ansible_host": target.address,
            "ansible_port": target.port,
            "ansible_user": target.user,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        if target.identity:
            connection["ansible_ssh_private_key_file"] = str(Path(target.identity).expanduser())
        if target.become:
            connection |= {"ansible_become": True, "ansible_become_method": "ansible.builtin.sudo"}
        path = self.folder / "inventory.json"
        path.touch(0o600)
        variables = {**self.job["variables"], **inert({**self.job["data"], **connection})}
        path.write_text(json.dumps({"all": {"hosts": {target.name: variables}}}))
        return path

    def _scrub(self, text: str) -> str:
        """Replace secret values in a text, in case a role prints one."""
        for secret in self.secrets:
            text = text.replace(secret, "(secret)")
        return text


def _secret_texts(values: Iterable[str]) -> Iterator[str]:
    """Yield each secret, and each line of one with several, which a diff may show one by one; without what every PEM text has."""
    for value in values:
        lines = [line for line in value.splitlines() if not line.startswith("-----")]
        yield from (text for text in (value, *lines) if len(text) >= 6)


def inert(value: Any) -> Any:
    """Return a value as JSON whose texts Ansible (2.19 and newer) does not evaluate as templates; names in a mapping it never evaluates."""
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    if isinstance(value, dict):
        return {name: inert(item) for name, item in value.items()}
    if isinstance(value, list):
        return [inert(item) for item in value]
    return value


def _environment(job: dict[str, Any], folder: Path, target: ssh.Target) -> dict[str, str]:
    """Return Ansible's settings: all files of a run are in its directory, only the pinned host key is accepted."""
    (folder / "known_hosts").write_text(ssh.known_hosts(target))
    options = {
        "ControlMaster": "auto",
        "ControlPersist": "60s",
        "ControlPath": f"{folder}/c",
        **_pinned(target, folder),
        **({"ProxyCommand": _proxy(target.bastion, folder)} if target.bastion else {}),
    }
    config = Path(job["root"]) / "ansible.cfg"
    if not config.exists():  # without ANSIBLE_CONFIG Ansible would read the user's own file
        config = folder / "ansible.cfg"
        config.touch()
    return {
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_ROLES_PATH": f"{job['root']}/roles",
        "ANSIBLE_HOME": f"{folder}/home",
        "ANSIBLE_LOCAL_TEMP": f"{folder}/tmp",
        "ANSIBLE_DIFF_ALWAYS": "True",  # for the log, and to distinguish a created file from a changed one
        "ANSIBLE_INJECT_INVOCATION": "True",  # without it results of core 2.21 and newer have no arguments, and nothing is declared
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_INJECT_FACT_VARS": "False",  # otherwise `ansible_facts` in any module's answer overrides the job's variables
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_TIMEOUT": "15",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_ARGS": shlex.join(["-F", "/dev/null", *_flags(options)]),
        **(MACOS if sys.platform == "darwin" else {"LC_ALL": "C.UTF-8"}),
    }


def _pinned(target: ssh.Target, folder: Path) -> dict[str, str]:
    """Return the ssh options that accept only the pinned host key, and never ask the user."""
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
    """Return the ProxyCommand through the bastion; ssh fills in the node's address and port."""
    identity = ["-i", str(Path(bastion.identity).expanduser())] if bastion.identity else []
    options = [*_flags({**_pinned(bastion, folder), "ConnectTimeout": "15"}), *identity]
    login = f"{bastion.user}@{bastion.address}"
    return shlex.join(["ssh", "-F", "/dev/null", *options, "-p", str(bastion.port), "-W", "[%h]:%p", login])


def _flags(options: dict[str, str]) -> list[str]:
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def main() -> None:
    """Run the job on stdin; the exit code is 0 if the `end` event was written."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        job = json.loads(stdin.readline())
    # Only events go to the real stdout; what libraries print goes to stderr, which is the log.
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
            end = {"status": status, "rc": rc, "cancelled": run.cancelled.is_set(), "tail": list(run.tail)}
            run.write_event({"event": "end", **end})


if __name__ == "__main__":
    main()
