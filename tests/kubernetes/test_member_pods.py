"""Claims about a member's turn on a real API server with controllers, scheduler and disruption budgets, asked by the real kubectl; the kubelet is played.

The script that the provider sends to a control plane runs here. Who waits for what: tests/unit/test_provider_member_turns.py.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from fleet import errors, ssh
from fleet.cluster import nodes
from fleet.managed import member_pods
from lab.kubernetes import build
from tests.support import api_server as support
from tests.support.api_server import ApiServer
from tests.support.model_rollout import ready, serve

SNAPSHOT = pathlib.Path(__file__).parents[2] / "roles" / "kubernetes" / "files" / "snapshot.py"
NAMES = ("gpu-1", "gpu-2")


class ControlPlane:
    """A connection to a control plane: what it runs, runs here."""

    target = ssh.Target.from_inputs({"name": "cp-1", "address": "192.0.2.1", "port": 22, "host_key": "ssh-ed25519 A"})

    def run(self, command: str, stdin: str = "", timeout: float = 60) -> ssh.Result:
        done = subprocess.run(
            [sys.executable, "-I", "-"], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        return ssh.Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def plane(gpu_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssh.Connection]:
    """A control plane; its nodes are as before afterwards."""
    admin = (f"--kubeconfig={gpu_server.kubeconfig}", "--context=admin")
    monkeypatch.setattr(member_pods, "KUBECTL", (str(build.binary("cp")), "kubectl", *admin))
    yield cast(ssh.Connection, ControlPlane())
    for name in NAMES:
        mark = {"annotations": {"glm-fleet/in-turn": None}}
        patch(gpu_server, name, {"spec": {"unschedulable": None}, "metadata": mark})


def patch(server: ApiServer, name: str, body: dict[str, object]) -> None:
    server.request("PATCH", f"{nodes.PATH}/{name}", body, form="merge-patch+json")


def drained(plane: ssh.Connection, name: str) -> Callable[[], bool]:
    def asked() -> bool:
        evicted = member_pods.evict(plane, name)
        return not evicted.left and not evicted.held

    return asked


def test_pods_leave_a_member_as_their_budget_allows_and_come_back(
    gpu_server: ApiServer, namespace: str, plane: ssh.Connection
) -> None:
    pods = serve(gpu_server, namespace)
    assert member_pods.cordon(plane, "gpu-1")
    first = member_pods.evict(plane, "gpu-1")
    assert first.left == (f"{namespace}/{pods['gpu-1']}",) and not first.held
    support.wait(drained(plane, "gpu-1"), "its pod has ended")
    # Its successor finds no free GPUs, so that the budget allows no further pod to go.
    assert member_pods.waiting(plane, "gpu-1", first.owners)
    assert member_pods.cordon(plane, "gpu-2")
    second = member_pods.evict(plane, "gpu-2")
    assert second.left == () and list(second.held) == [f"{namespace}/{pods['gpu-2']}"]
    assert second.held[f"{namespace}/{pods['gpu-2']}"].startswith("Cannot evict pod as it would violate")
    assert [pod["metadata"]["name"] for pod in ready(gpu_server, namespace)] == [pods["gpu-2"]]
    assert member_pods.uncordon(plane, "gpu-1")
    support.wait(lambda: not member_pods.waiting(plane, "gpu-1", first.owners), "the pod that was there is ready")
    assert {pod["spec"]["nodeName"] for pod in ready(gpu_server, namespace)} == {*NAMES}


def test_a_pod_that_nobody_would_make_again_keeps_all_others_there(
    gpu_server: ApiServer, namespace: str, plane: ssh.Connection
) -> None:
    pods = serve(gpu_server, namespace)
    tool = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tool", "namespace": namespace}}
    gpu_server.apply({**tool, "spec": {"nodeName": "gpu-1", "containers": [{"name": "tool", "image": "tool"}]}})
    assert member_pods.evict(plane, "gpu-1").bare == (f"{namespace}/tool",)
    assert {pod["metadata"]["name"] for pod in ready(gpu_server, namespace)} == {*pods.values()}
    gpu_server.request("DELETE", gpu_server.path(tool), gracePeriodSeconds="0")


def test_a_pod_of_a_daemon_set_stays(gpu_server: ApiServer, namespace: str, plane: ssh.Connection) -> None:
    labels = {"app": "agent"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "agent", "image": "agent"}]}}
    place = {"name": "agent", "namespace": namespace}
    agent = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": place}
    gpu_server.apply({**agent, "spec": {"selector": {"matchLabels": labels}, "template": template}})
    support.wait(lambda: len(gpu_server.pods(labels, namespace)) == len(NAMES), "each node has its pod")
    assert drained(plane, "gpu-1")()
    assert len(gpu_server.pods(labels, namespace)) == len(NAMES)
    gpu_server.request("DELETE", gpu_server.path(agent), propagationPolicy="Foreground")
    support.wait(lambda: not gpu_server.pods(labels, namespace), "they have ended")


def test_a_cordon_of_somebody_else_stays(gpu_server: ApiServer, plane: ssh.Connection) -> None:
    patch(gpu_server, "gpu-1", {"spec": {"unschedulable": True}})
    assert not member_pods.cordon(plane, "gpu-1") and not member_pods.uncordon(plane, "gpu-1")
    assert member_pods.look(plane)["gpu-1"].standing == "is drained by an operator"


def test_a_member_in_its_turn_is_known_as_such_and_a_second_cordon_is_none(plane: ssh.Connection) -> None:
    assert member_pods.cordon(plane, "gpu-1") and member_pods.cordon(plane, "gpu-1")
    members = member_pods.look(plane)
    assert members["gpu-1"].standing == "was left drained by an earlier run"
    assert members["gpu-2"].standing == "serves" and not members["gpu-2"].plane
    assert member_pods.uncordon(plane, "gpu-1") and not member_pods.uncordon(plane, "gpu-1")


def test_the_words_of_the_api_server_are_the_message(plane: ssh.Connection) -> None:
    with pytest.raises(errors.CommandFailed) as caught:
        member_pods.cordon(plane, "gpu-9")
    assert (caught.value.node, caught.value.doing) == ("cp-1", "cordon gpu-9")
    assert caught.value.seen == 'Error from server (NotFound): nodes "gpu-9" not found'


def test_the_role_saves_the_real_etcd_s_state(api_server: ApiServer, tmp_path: pathlib.Path) -> None:
    pem = str(api_server.keys.server)
    query = {"folder": str(tmp_path), "name": "1.36.3", "kept": 3, "url": api_server.etcd}
    query |= {"authority": str(api_server.keys.authority), "certificate": pem, "key": pem}
    run = subprocess.run(
        [sys.executable, str(SNAPSHOT)], input=json.dumps(query), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    content = pathlib.Path(json.loads(run.stdout)["file"]).read_bytes()
    assert b"/registry/namespaces/kube-system" in content
