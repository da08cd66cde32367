"""What a stack or its cluster lacks, on a real API server: one message before anything is declared, and none once it has been mended."""

import base64
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
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
    message = ask(api_server, request_of_pulumi)["error"]
    assert f"{SPACE} has {nodes.GPU}, and not the labels\n    {LABEL}: MI250X\n" in message
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


def parts(server: ApiServer) -> CheckResult:
    """Return what the preflight says of the definitions that a stack with a PodMonitor needs."""
    monitor = {"namespace": "monitoring", "labels": {"app": "prometheus"}}
    stack = cluster_stack.stack(pod_monitor=monitor)
    wanted = dataclasses.replace(cluster_requirements.of_stack("prod", stack.settings, stack.roles), objects=())
    results = preflight.check(Cluster(Access("admin", str(server.kubeconfig))), wanted)
    return next(each for each in results if each.check == "parts of the cluster")


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
