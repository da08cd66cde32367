"""What a run of Ansible gets: which environment, which host keys its ssh accepts, what of the job it may evaluate.

ssh itself says what its options mean (`ssh -G`). tests/machine/test_converge.py shows on a lab node that a run refuses another host key.
"""

import contextlib
import io
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet import ssh
from fleet.ansible import converge, supervisor

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJeVz3VbTYhhQOef9YyxrQHwxTofp0e+6vDTXGDt1LHw"
NODE = ssh.Target("glm-1", "192.0.2.11", 2222, "ops", KEY, "/home/ops/id")
BEHIND = ssh.Target("glm-1", "192.0.2.11", host_key=KEY, bastion=ssh.Target("glm-1.bastion", "192.0.2.1", host_key=KEY))


def settings(target: ssh.Target, folder: Path) -> dict[str, str]:
    return supervisor._environment({"root": str(folder)}, folder, target)


def ssh_options(*words: str) -> dict[str, str]:
    """Return the options that ssh reads from its arguments."""
    output = subprocess.run(["ssh", "-G", *words], capture_output=True, text=True, check=True).stdout
    return dict(line.partition(" ")[::2] for line in output.splitlines())


def expect_pinned_key_only(options: dict[str, str], folder: Path) -> None:
    assert options["stricthostkeychecking"] == "true"
    assert options["userknownhostsfile"] == f"{folder}/known_hosts"
    assert options["globalknownhostsfile"] == "/dev/null"
    assert options["updatehostkeys"] == "false"
    assert options["batchmode"] == "yes"
    assert options["hostkeyalgorithms"] == "ssh-ed25519"
    assert options["verifyhostkeydns"] == "false"


def test_ansible_s_ssh_accepts_the_pinned_host_key_only(tmp_path: Path) -> None:
    options = ssh_options(*shlex.split(settings(NODE, tmp_path)["ANSIBLE_SSH_ARGS"]), NODE.address)
    expect_pinned_key_only(options, tmp_path)
    assert options["hostkeyalias"] == "glm-1"
    assert options["identitiesonly"] == "yes"
    assert (tmp_path / "known_hosts").read_text() == f"glm-1 {KEY}\n"


def test_the_way_through_a_bastion_accepts_its_pinned_host_key_only(tmp_path: Path) -> None:
    options = ssh_options(*shlex.split(settings(BEHIND, tmp_path)["ANSIBLE_SSH_ARGS"]), BEHIND.address)
    expect_pinned_key_only(options, tmp_path)
    _, *words = shlex.split(options["proxycommand"].replace("%h", BEHIND.address).replace("%p", "22"))
    bastion_options = ssh_options(*words)
    expect_pinned_key_only(bastion_options, tmp_path)
    assert bastion_options["hostkeyalias"] == "glm-1.bastion"
    assert (tmp_path / "known_hosts").read_text() == f"glm-1 {KEY}\nglm-1.bastion {KEY}\n"


def test_ansible_checks_host_keys_and_no_fact_hides_a_variable(tmp_path: Path) -> None:
    environment = settings(NODE, tmp_path)
    assert environment["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert environment["ANSIBLE_INJECT_FACT_VARS"] == "False"


@pytest.mark.parametrize(
    "name",
    [
        "PULUMI_CONFIG_PASSPHRASE",
        "PULUMI_CONFIG_PASSPHRASE_FILE",
        "PULUMI_ACCESS_TOKEN",
        "PULUMI_BACKEND_URL",
        "ANSIBLE_CONFIG",
        "ANSIBLE_HOST_KEY_CHECKING",
        "ANSIBLE_CALLBACK_PLUGINS",
        "RUNNER_ARTIFACTS",
        "AWX_LIB_DIRECTORY",
        "PYTHONPATH",
        "PYTHONSTARTUP",
    ],
)
def test_a_run_sees_nothing_of_pulumi_and_no_settings_of_the_user_s_shell(name: str, tmp_path: Path) -> None:
    environment = converge.environment(tmp_path, {name: "theirs", "SSH_AUTH_SOCK": "/agent", "PATH": "/bin"})
    assert "theirs" not in environment.values()
    assert environment["SSH_AUTH_SOCK"] == "/agent"
    assert environment["PATH"].endswith(":/bin")


def test_ansible_evaluates_only_the_stack_s_variables_of_the_inventory(tmp_path: Path) -> None:
    expression = "{{ 1 + 1 }}"
    job: dict[str, Any] = {
        "folder": str(tmp_path),
        "target": {"name": "glm-1", "address": expression, "user": expression, "identity": "/id", "host_key": KEY},
        "variables": {"own": expression, "both": expression},
        "data": {"both": expression, "deep": {"a": [expression, {"b": expression}], "number": 3, "flag": True}},
        "secrets": {},
    }
    inventory = json.loads(supervisor.Run(job, None, None)._inventory().read_text())  # type: ignore[arg-type]
    variables = inventory["all"]["hosts"]["glm-1"]
    inert = {"__ansible_unsafe": expression}
    assert variables.pop("own") == expression
    assert variables["both"] == inert
    assert variables["deep"] == {"a": [inert, {"b": inert}], "number": 3, "flag": True}
    assert variables["ansible_host"] == variables["ansible_user"] == inert
    assert expression not in variables.values()
    assert (tmp_path / "inventory.json").stat().st_mode & 0o777 == 0o600


def test_a_log_hides_each_line_of_a_key_that_a_diff_would_show_one_by_one(tmp_path: Path) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAwEHBG0wawIB\n-----END PRIVATE KEY-----\n"
    secrets = {"GATEWAY_NODE_PEM": pem, "SHORT": "abc"}
    job = {"folder": str(tmp_path), "target": {"name": "glm-1", "address": "192.0.2.11"}, "secrets": secrets}
    log = io.StringIO()
    run = supervisor.Run(job, io.StringIO(), log)
    shown = "".join(f"+{line}\n" for line in pem.splitlines())
    run.handle({"event": "verbose", "stdout": f"{shown}{pem}abc"})
    begin, end = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    assert log.getvalue() == f"+{begin}\n+(secret)\n+(secret)\n+{end}\n(secret)abc\n"


@pytest.mark.parametrize(("cancelled", "commands"), [(True, ["systemctl stop fleet-work.slice"]), (False, [])])
def test_a_cancel_stops_the_long_work_on_the_node(
    cancelled: bool, commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    class Connection:
        def run(self, command: str, timeout: float) -> None:
            sent.append(command)

    monkeypatch.setattr(supervisor.ssh, "connect", lambda *_, **__: contextlib.nullcontext(Connection()))
    monkeypatch.setattr(supervisor.run_directory, "sweep", lambda *_, **__: None)
    folder = tmp_path / "run"
    folder.mkdir()
    job = {"folder": str(folder), "target": {"name": "glm-1", "address": "192.0.2.11"}, "secrets": {}}
    run = supervisor.Run(job, io.StringIO(), io.StringIO())
    if cancelled:
        run.cancelled.set()
    run.end()
    assert sent == commands
    assert not folder.exists()
