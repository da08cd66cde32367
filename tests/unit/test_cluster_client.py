"""A cluster is reached through the named context and no other, and what its API server sends is checked: each mistake is one message."""

import base64
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import errors
from fleet.cluster import Access, Cluster, client, namespaces, nodes, pods
from tests.support.http_server import Handler, make_certificate
from tests.support.scripted_api import CONTEXT, TOKEN, ScriptedApi

GOLDEN = Path(__file__).parent / "golden" / "cluster"
SELECTOR = {"amd.com/gpu.product-name": ["AMD_Instinct_MI300X_OAM", "AMD_Instinct_MI300X_VF"]}


def expect_golden(claim: str, message: str, api: ScriptedApi) -> None:
    """Compare a message, less the test's own paths and ports, with the golden text."""
    text = message.replace(str(api.kubeconfig), "KUBECONFIG").replace(api.name, "API-SERVER")
    assert text + "\n" == (GOLDEN / f"{claim}.txt").read_text()


def refused(call: Callable[[], Any], kind: type[errors.FleetError] = errors.FleetError) -> errors.FleetError:
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def node(name: str, gpus: int = 0, **labels: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True"}
    status = {"allocatable": {nodes.GPU: str(gpus)} if gpus else {}, "conditions": [ready]}
    metadata = {"name": name, "uid": f"uid-{name}", "labels": {key.replace("__", "."): labels[key] for key in labels}}
    return {"metadata": metadata, "spec": {}, "status": status}


MI300X = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}

# --- which cluster


@pytest.mark.parametrize(("context", "claim"), [("prob", "context-unknown"), ("", "context-missing")])
def test_another_context_than_one_of_the_file_is_refused_before_any_connection(
    api: ScriptedApi, context: str, claim: str
) -> None:
    error = refused(lambda: Cluster(Access(context, str(api.kubeconfig))), errors.ClusterUnreachable)
    expect_golden(claim, str(error), api)
    assert not api.asked


def test_without_the_client_of_kubernetes_the_message_says_how_to_get_it(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    error = refused(lambda: Cluster(Access(CONTEXT, str(api.kubeconfig))), errors.ClusterUnreachable)
    expect_golden("no-client", str(error), api)


def test_a_current_context_of_the_file_is_never_used(api: ScriptedApi) -> None:
    api.kubeconfig.write_text(api.kubeconfig.read_text().replace("current-context: ''", f"current-context: {CONTEXT}"))
    refused(lambda: Cluster(Access("", str(api.kubeconfig))))


def test_the_environment_names_the_file_where_the_stack_does_not(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    api.page(nodes.PATH)
    assert nodes.read(Cluster(Access(CONTEXT))) == []
    assert api.tokens == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("cluster", "claim"),
    [
        ({"insecure-skip-tls-verify": True}, "no-verification"),
        ({"server": "http://192.0.2.1:8080"}, "no-tls"),
        ({"certificate-authority-data": "bm90IGEgY2VydGlmaWNhdGU="}, "broken-authority"),
    ],
)
def test_a_server_that_cannot_be_verified_gets_no_credentials(
    api: ScriptedApi, tmp_path: Path, cluster: dict[str, Any], claim: str
) -> None:
    api.write(tmp_path / "server.pem", **cluster)
    expect_golden(claim, str(refused(lambda: Cluster(Access(CONTEXT, str(api.kubeconfig))))), api)


def test_another_server_than_the_kubeconfig_s_gets_no_credentials(api: ScriptedApi, tmp_path: Path) -> None:
    api.write(make_certificate(tmp_path, "other"))
    other = Cluster(Access(CONTEXT, str(api.kubeconfig)))
    expect_golden("other-server", str(refused(lambda: nodes.read(other), errors.ClusterUnreachable)), api)
    assert not api.tokens


SECRET = base64.b64encode(b"a-secret").decode()


@pytest.mark.parametrize(
    "user",
    [
        {"client-certificate-data": "a-secret!", "client-key-data": "a-secret!"},
        {"client-certificate-data": SECRET, "client-key-data": SECRET},
        {"client-certificate-data": ["a-secret"]},
    ],
)
def test_no_message_about_a_kubeconfig_has_a_credential(api: ScriptedApi, user: dict[str, Any]) -> None:
    content = yaml.safe_load(api.kubeconfig.read_text())
    content["users"][0]["user"] = user
    api.kubeconfig.write_text(yaml.safe_dump(content))
    message = str(refused(lambda: Cluster(Access(CONTEXT, str(api.kubeconfig)))))
    assert "a-secret" not in message
    assert SECRET not in message


def test_no_file_with_a_credential_is_left(api: ScriptedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    Cluster(Access(CONTEXT, str(api.kubeconfig)))
    assert list(folder.iterdir()) == []


# --- what it refuses


def status(reason: str, message: str) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "reason": reason, "message": message}


REFUSALS = {
    "token-expired": (401, status("Unauthorized", "Unauthorized")),
    "too-few-rights": (
        403,
        status(
            "Forbidden",
            'nodes is forbidden: User "system:serviceaccount:glm:fleet" cannot list resource "nodes" in API group "" at the cluster scope',
        ),
    ),
    "webhook-refuses": (
        403,
        status("Forbidden", 'admission webhook "validate.kyverno.svc" denied the request: no \x1b[31mteam label'),
    ),
    "no-json": (500, b"<html>upstream connect error</html>"),
}


@pytest.mark.parametrize("claim", REFUSALS)
def test_a_refusal_is_one_message_with_what_to_do(api: ScriptedApi, cluster: Cluster, claim: str) -> None:
    api.answers[nodes.PATH] = REFUSALS[claim]
    expect_golden(claim, str(refused(lambda: nodes.read(cluster), errors.ClusterRefused)), api)


def test_a_server_that_is_gone_is_named_with_what_goes_on(api: ScriptedApi, cluster: Cluster) -> None:
    api.close()
    expect_golden("gone", str(refused(lambda: nodes.read(cluster), errors.ClusterUnreachable)), api)


def test_a_busy_server_is_asked_again(api: ScriptedApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_busy(handler: Handler) -> None:
        api.page(nodes.PATH, node("a"))
        handler.reply(429, b"{}", Retry_After="0")

    api.answers[nodes.PATH] = first_busy
    assert [each.name for each in nodes.read(cluster)] == ["a"]


# --- what it sends


def deep(levels: int) -> bytes:
    return b'{"items":[' * levels


WRONG: dict[str, Any] = {
    "no list": {"items": "all"},
    "no items": {"kind": "NodeList"},
    "a name with a command": {"items": [{"metadata": {"name": "$(reboot)", "uid": "1"}}]},
    "a name with an escape": {"items": [{"metadata": {"name": "a\x1b]0;x", "uid": "1"}}]},
    "a number for a text": {"items": [{"metadata": {"name": 7, "uid": "1"}}]},
    "a quantity of words": {"items": [{**node("a"), "status": {"allocatable": {nodes.GPU: "eight"}}}]},
    "conditions without a type": {"items": [{**node("a"), "status": {"conditions": [{}]}}]},
    "no JSON": b"hello",
    "deep": deep(100_000),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_reply_of_a_wrong_form_is_one_message_and_nothing_of_it_is_used(
    api: ScriptedApi, cluster: Cluster, name: str
) -> None:
    body = WRONG[name]
    api.answers[nodes.PATH] = (200, body if isinstance(body, bytes) else json.dumps(body).encode())
    error = refused(lambda: nodes.read(cluster), errors.OutputMalformed)
    assert "\x1b" not in str(error)
    assert "is an API server?" not in str(error)


def test_a_reply_without_an_end_is_cut(api: ScriptedApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BYTES", 1 << 16)
    api.answers[nodes.PATH] = (200, b" " * (1 << 20))
    assert "MiB" in str(refused(lambda: nodes.read(cluster), errors.OutputMalformed))


def test_pages_without_an_end_are_cut(api: ScriptedApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGES", 3)
    api.answers[nodes.PATH] = (200, {"items": [node("a")], "metadata": {"continue": "more"}})
    refused(lambda: nodes.read(cluster), errors.OutputMalformed)
    assert len(api.asked) == 3


def test_what_a_program_in_a_pod_says_cannot_drive_a_terminal(api: ScriptedApi, cluster: Cluster) -> None:
    waiting = {"reason": "CrashLoopBackOff\x1b[2J", "message": "first\nsecond\x1b]52;c;x\x07"}
    item = {
        "metadata": {"name": "a", "uid": "1", "namespace": "glm"},
        "spec": {"containers": [{"name": "vllm"}]},
        "status": {"containerStatuses": [{"name": "vllm", "state": {"waiting": waiting}}]},
    }
    api.page("/api/v1/namespaces/glm/pods", item)
    [pod] = pods.of_namespace(cluster, "glm", {})
    [container] = pod.containers
    assert container.waiting.isprintable()
    assert container.message == "first second\\x1b]52;c;x\\x07"


# --- its nodes and namespaces

NODES = {
    "no-gpus": [node("a"), node("b")],
    "label-missing": [node("a", gpus=8), node("b", gpus=8, **{"amd.com/gpu.product-name": "AMD_Instinct_MI250X"})],
    "no-device-plugin": [node("a", **MI300X), node("b")],
}


@pytest.mark.parametrize("claim", NODES)
def test_a_cluster_without_nodes_for_the_stack_is_one_message_with_what_is_missing(
    api: ScriptedApi, cluster: Cluster, claim: str
) -> None:
    api.page(nodes.PATH, *NODES[claim])
    expect_golden(claim, str(refused(lambda: nodes.with_gpus(cluster, SELECTOR), errors.NotReady)), api)


def test_the_nodes_of_a_stack_have_gpus_and_the_labels(api: ScriptedApi, cluster: Cluster) -> None:
    api.page(
        nodes.PATH, node("b", gpus=8, **MI300X), node("a", gpus=4, **MI300X), node("c", gpus=8), node("d", **MI300X)
    )
    assert [(each.name, each.gpus) for each in nodes.with_gpus(cluster, SELECTOR)] == [("a", 4), ("b", 8)]


OWNERS = {
    "namespace-of-another-stack": {namespaces.OWNER: "acme/glm-fleet/staging"},
    "namespace-of-nobody": {},
}


@pytest.mark.parametrize("claim", OWNERS)
def test_a_namespace_of_somebody_else_is_refused(api: ScriptedApi, cluster: Cluster, claim: str) -> None:
    metadata = {"name": "glm", "uid": "1", "annotations": OWNERS[claim]}
    api.answers["/api/v1/namespaces/glm"] = (200, {"metadata": metadata, "status": {"phase": "Active"}})
    error = refused(lambda: namespaces.check_owner(cluster, "glm", "acme/glm-fleet/prod"), errors.NotReady)
    expect_golden(claim, str(error), api)


def test_a_namespace_of_the_stack_and_one_that_does_not_exist_are_taken(api: ScriptedApi, cluster: Cluster) -> None:
    own = {"name": "glm", "uid": "1", "annotations": {namespaces.OWNER: "acme/glm-fleet/prod"}}
    api.answers["/api/v1/namespaces/glm"] = (200, {"metadata": own, "status": {"phase": "Active"}})
    assert namespaces.check_owner(cluster, "glm", "acme/glm-fleet/prod")
    assert not namespaces.check_owner(cluster, "new", "acme/glm-fleet/prod")


def test_warnings_beside_a_judgement_are_read_and_cannot_drive_a_terminal(api: ScriptedApi, cluster: Cluster) -> None:
    def answer(handler: Handler) -> None:
        said = '299 - "old \\"kind\\"", 299 admission "\x1b]52;c;aGk=\x07", 110 - "stale", 299 - "unended'
        handler.reply(200, b"{}", Warning=said)

    api.answers["/api/v1/namespaces/glm"] = answer
    notes = cluster.judge("judge it", "PATCH", "/api/v1/namespaces/glm", {}, "apply-patch+yaml")
    assert list(notes) == ['old "kind"', "\\x1b]52;c;aGk=\\x07"]
    assert api.asked == ["/api/v1/namespaces/glm?dryRun=All"]
