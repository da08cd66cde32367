"""What a stack or its cluster lacks, on a real API server: one message before anything is declared, and none once it has been mended."""

import base64
import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from fleet.cli import cluster_requirements
from fleet.cluster import Access, Cluster, nodes
from fleet.preflight import cluster as preflight
from fleet.preflight.form import CheckResult
from fleet.program.kubernetes import rights
from fleet.provider import cluster_nodes
from fleet.provider.base import Request
from lab.kubernetes import crds, pki
from tests.support import api_server as support
from tests.support import cluster_stack
from tests.support.api_server import ApiServer, Object
from tests.support.broken_way import KubeletLogs

LABEL = "glm-fleet-test/gpu"
SPACE, OWNER = "mistakes", "acme/glm-fleet/prod"
GROUP = "/apis/monitoring.coreos.com/v1"


def ask(server: ApiServer, request: Request, context: str = pki.ADMIN) -> dict[str, Any]:
    """Return what the program asks first: the nodes, or a message."""
    cluster = {"context": context, "kubeconfig": str(server.kubeconfig)}
    arguments = {"cluster": cluster, "selector": {LABEL: ["MI300X"]}, "namespaces": [SPACE], "owner": OWNER}
    answer: dict[str, Any] = cluster_nodes.ask(arguments, request)
    return answer


def first_line(answer: dict[str, Any]) -> str:
    return str(answer["error"]).partition("\n")[0]


@pytest.fixture
def node(api_server: ApiServer) -> Iterator[Callable[..., None]]:
    """Give the node of these tests GPUs and a label."""
    thing: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": SPACE}}

    def give(gpus: str, **labels: str) -> None:
        support.add_node(api_server, SPACE, {nodes.GPU: gpus, "pods": "10"}, {LABEL: "MI300X", **labels})

    yield give
    api_server.request("DELETE", api_server.path(thing))


def test_a_node_without_gpus_or_with_another_label_is_named_until_it_has_both(
    api_server: ApiServer, request_of_pulumi: Request, node: Callable[..., None]
) -> None:
    node("0")
    assert first_line(ask(api_server, request_of_pulumi)) == (
        f"admin: find the nodes with GPUs: {SPACE} has {LABEL}=MI300X, and no {nodes.GPU}"
    )
    node("8", **{LABEL: "MI250X"})
    # Other tests may have left nodes with GPUs there.
    pattern = rf"{SPACE} (has|have) {nodes.GPU}, and not the labels\n    {LABEL}: MI250X( or absent)?\n"
    assert re.search(pattern, ask(api_server, request_of_pulumi)["error"])
    node("8")
    assert ask(api_server, request_of_pulumi) == {"nodes": [SPACE], "left": []}


def test_a_namespace_of_somebody_else_is_refused_until_it_is_gone(
    api_server: ApiServer, request_of_pulumi: Request, node: Callable[..., None]
) -> None:
    node("8")
    namespace: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    api_server.apply(namespace)
    seen = first_line(ask(api_server, request_of_pulumi))
    assert seen == f"admin: take namespace {SPACE}: it exists, and no stack has made it"
    path = api_server.path(namespace)
    api_server.request("DELETE", path)
    # No controller empties it here.
    api_server.request("PUT", f"{path}/finalize", {**api_server.get(namespace), "spec": {"finalizers": []}})
    assert ask(api_server, request_of_pulumi)["nodes"] == [SPACE]


def test_another_context_than_those_of_the_kubeconfig_is_refused(
    api_server: ApiServer, request_of_pulumi: Request
) -> None:
    seen = ask(api_server, request_of_pulumi, "admim")["error"]
    assert "has no context admim" in seen and "did you mean admin?" in seen


def expire(server: ApiServer, token: str) -> str:
    """Return a token as it was, but for its times: it ended five minutes ago. Signed by the server's own key."""
    head, claims, _ = token.split(".")
    now = int(time.time())
    content = {
        **json.loads(base64.urlsafe_b64decode(claims + "==")),
        "iat": now - 900,
        "nbf": now - 900,
        "exp": now - 300,
    }
    signed = f"{head}.{_encode(json.dumps(content).encode())}"
    key = serialization.load_pem_private_key(server.keys.accounts.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    parts = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_encode(b''.join(part.to_bytes(32) for part in parts))}"


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def test_a_token_that_has_expired_is_refused_until_there_is_another_one(
    api_server: ApiServer, request_of_pulumi: Request, node: Callable[..., None]
) -> None:
    node("8")
    api_server.add_account("expires", "default", [], seconds=600)  # by TokenRequest; no shorter one is given
    fresh = api_server.tokens["expires"]
    read = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}
    role = {"apiVersion": f"{rights.GROUP}/v1", "kind": "ClusterRole", "metadata": {"name": "expires"}}
    subject = {"kind": "ServiceAccount", "name": "expires", "namespace": "default"}
    api_server.apply({**role, "rules": [read, dict(rights.NODES)]}, *rights.bindings([role], subject))
    api_server.add_context("expires", expire(api_server, fresh))
    assert ask(api_server, request_of_pulumi, "expires")["error"].splitlines()[:2] == [
        f"expires: read namespace {SPACE}: the API server does not accept the credentials of this context",
        "  wanted: credentials that have not expired",
    ]
    api_server.add_context("expires", fresh)
    assert ask(api_server, request_of_pulumi, "expires")["nodes"] == [SPACE]


def results(server: ApiServer, check: str, **keys: Any) -> list[CheckResult]:
    """Return what one check of the preflight says of a stack."""
    stack = cluster_stack.stack(**keys)
    wanted = dataclasses.replace(cluster_requirements.of_stack("prod", stack.settings, stack.roles), objects=())
    every = preflight.check(Cluster(Access("admin", str(server.kubeconfig))), wanted)
    return [each for each in every if each.check == check]


def parts(server: ApiServer) -> CheckResult:
    """Return what the preflight says of the definitions that a stack with a PodMonitor needs."""
    monitor = {"namespace": "monitoring", "labels": {"app": "prometheus"}}
    [result] = results(server, "parts of the cluster", pod_monitor=monitor)
    return result


def test_a_definition_that_the_cluster_lacks_is_named_until_it_is_installed(api_server: ApiServer) -> None:
    [monitors] = [each for each in crds.definitions() if each["spec"]["names"]["kind"] == "PodMonitor"]
    assert parts(api_server).level == "ok"
    api_server.request("DELETE", api_server.path(monitors))
    support.wait(lambda: not _knows_monitors(api_server), "the server has forgotten the kind")
    lacking = parts(api_server)
    assert (lacking.level, lacking.seen) == ("error", "no PodMonitor in monitoring.coreos.com/v1")
    assert (lacking.wanted, lacking.next) == ("its CustomResourceDefinition", "the cluster's owner installs it")
    api_server.apply(monitors)
    support.wait(lambda: _knows_monitors(api_server), "the server knows the kind again")
    assert parts(api_server).level == "ok"


def _knows_monitors(server: ApiServer) -> bool:
    try:
        return any(each["kind"] == "PodMonitor" for each in server.request("GET", GROUP)["resources"])
    except support.RefusedError:
        return False


def fetch(server: ApiServer, name: str, phase: str, code: int, job: str = "weights-1") -> Object:
    """Make a pod of a Job that fetches weights on the node of these tests, as its kubelet would report it."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": job, "controller": True}
    place = {
        "name": name,
        "namespace": f"{SPACE}-weights",
        "labels": {"glm-fleet/job": "weights"},
        "ownerReferences": [owner],
    }
    container = {"name": "fetch", "image": "serving"}
    spec = {"nodeName": SPACE, "containers": [{"name": "finish", "image": "serving"}], "initContainers": [container]}
    pod: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": place, "spec": {**spec, "restartPolicy": "Never"}}
    server.apply(pod)
    ended = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
    status = {"name": "fetch", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": ended}
    server.set_status(pod, {"phase": phase, "initContainerStatuses": [status]})
    return pod


def test_weights_with_a_wrong_sum_are_named_by_the_preflight_until_their_job_has_been_made_anew(
    api_server: ApiServer, node: Callable[..., None], tmp_path: Path
) -> None:
    node("8")
    words = "model.safetensors: has sha256 00ab, wanted cd12\x1b[2J"
    kubelet = KubeletLogs(tmp_path, f"fetching\n{words}\n")
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{SPACE}-weights"}}
    api_server.apply(space)
    ways = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.server_port}},
    }
    api_server.set_status({"apiVersion": "v1", "kind": "Node", "metadata": {"name": SPACE}}, ways)
    try:
        pod = fetch(api_server, "weights-1-a", "Failed", 1)
        [result] = results(api_server, "weights", namespace=SPACE)
        assert result.level == "warning"
        assert result.seen == (
            f"pod weights-1-a on {SPACE}: fetch has failed\n"
            "| fetching\n| model.safetensors: has sha256 00ab, wanted cd12\\x1b[2J"
        )
        assert result.next.endswith(f"-n {SPACE}-weights logs weights-1-a -c fetch")
        support.end_pod(api_server, pod)  # with the Job that failed
        fetch(api_server, "weights-1-b", "Succeeded", 0)
        assert [each.level for each in results(api_server, "weights", namespace=SPACE)] == ["ok"]
    finally:
        kubelet.close()
