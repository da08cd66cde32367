"""`fleet kubeconfig`: what the file has, who may read it, and the lines for another stack."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import testing

from fleet import ssh
from fleet.cli import kubeconfig, stack_outputs
from fleet.cluster import Access
from fleet.managed import membership
from fleet.stack import kubernetes_form

NODE = {"name": "cp-1", "address": "192.0.2.1", "port": 22, "user": "root", "identity": "", "host_key": "ssh-ed25519 A"}
MEMBER = {"part": "first", "endpoint": "api.example.com:6443", "authority": "AUTHORITY", "node": NODE}
LOGIN = membership.Login("CERTIFICATE", "KEY")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of the control plane; the stack has one."""
    calls: list[Any] = []

    @contextlib.contextmanager
    def connect(target: ssh.Target) -> Iterator[str]:
        yield target.name

    def login(connection: Any, user: str, days: int) -> membership.Login:
        calls.append((connection, user, days))
        return LOGIN

    monkeypatch.setattr(ssh, "connect", connect)
    monkeypatch.setattr(membership, "login", login)
    members = {"gpu-1": {**MEMBER, "part": "worker"}, "cp-1": MEMBER}
    monkeypatch.setattr(stack_outputs, "deployed", lambda _: {"Member": members})
    return calls


def test_the_first_control_plane_signs_a_login_that_ends(called: list[Any], tmp_path: Path) -> None:
    run = testing.CliRunner().invoke(kubeconfig.command, ["-s", "gpus", "--file", str(tmp_path / "config")])
    assert run.exit_code == 0, run.output
    assert called == [("cp-1", "glm-fleet/gpus", 30)]


def test_only_its_owner_can_read_the_file_and_no_context_is_the_current_one(called: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "folder" / "config"
    testing.CliRunner().invoke(kubeconfig.command, ["-s", "gpus", "--file", str(file)])
    assert file.stat().st_mode & 0o777 == 0o600 and [*file.parent.iterdir()] == [file]
    document = yaml.safe_load(file.read_text())
    assert "current-context" not in document
    assert document["clusters"][0]["cluster"]["server"] == "https://api.example.com:6443"


def test_another_stack_reads_what_it_prints(called: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "config"
    run = testing.CliRunner().invoke(kubeconfig.command, ["-s", "gpus", "--file", str(file)])
    lines = yaml.safe_load(run.output)["glm-fleet:kubernetes"]
    assert lines == {"context": "gpus", "kubeconfig": str(file)}
    fields = kubernetes_form.Cluster.model_fields
    assert {"context", "kubeconfig"} <= fields.keys()
    Access.from_inputs(lines)


def test_a_stack_without_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stack_outputs, "deployed", lambda _: {"Node": {}})
    run = testing.CliRunner().invoke(kubeconfig.command, ["-s", "gpus"])
    assert run.exit_code == 1 and "no first control plane in its state" in run.output
