"""Claims about the suite's API server: it is the real one, and judges as a cluster's does."""

import json

import pytest

from lab.kubernetes import build
from tests.support.api_server import LIMITED, ApiServer, Object, RefusedError

NAMESPACE: Object = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "judged", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
}


def pod(**spec: object) -> Object:
    """Return a pod that `restricted` allows, with more in its specification."""
    rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "judged", "namespace": "judged"},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "judged", "image": "none.invalid/none", "securityContext": rights}],
            **spec,
        },
    }


@pytest.fixture(scope="module", autouse=True)
def namespace(api_server: ApiServer) -> None:
    api_server.apply(NAMESPACE)


def test_it_has_the_version_of_the_module(api_server: ApiServer) -> None:
    assert api_server.request("GET", "/version")["gitVersion"] == build.version()


def test_a_dry_run_lets_a_restricted_pod_pass_and_makes_none(api_server: ApiServer) -> None:
    [judged] = api_server.apply(pod(), dry_run=True)
    assert judged["metadata"]["uid"]
    with pytest.raises(RefusedError) as caught:
        api_server.get(pod())
    assert caught.value.code == 404


def test_a_dry_run_refuses_a_folder_of_the_node(api_server: ApiServer) -> None:
    folder = {"name": "models", "hostPath": {"path": "/var/lib/models"}}
    with pytest.raises(
        RefusedError, match=r'violates PodSecurity "restricted:latest": .*restricted volume types'
    ) as caught:
        api_server.apply(pod(volumes=[folder]), dry_run=True)
    assert caught.value.code == 403


def test_an_unknown_field_is_refused_by_name(api_server: ApiServer) -> None:
    with pytest.raises(RefusedError, match=r"\.spec\.hostNetwrok: field not declared in schema"):
        api_server.apply(pod(hostNetwrok=True), dry_run=True)


def test_a_route_and_a_pod_monitor_are_judged_by_their_definitions(api_server: ApiServer) -> None:
    route: Object = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "judged", "namespace": "judged"},
        "spec": {"rules": [{"backendRefs": [{"name": "judged", "port": 80}]}]},
    }
    monitor: Object = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "judged", "namespace": "judged"},
        "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "http"}]},
    }
    api_server.apply(route, monitor, dry_run=True)
    route["spec"]["rules"][0]["backendRefs"][0]["port"] = 0
    with pytest.raises(RefusedError, match="port in body should be greater than or equal to 1"):
        api_server.apply(route, dry_run=True)


def test_an_account_may_do_what_its_role_says_and_no_more(api_server: ApiServer) -> None:
    pods = "/api/v1/namespaces/default/pods"
    assert api_server.request("GET", pods, context=LIMITED)["kind"] == "PodList"
    with pytest.raises(RefusedError, match=r"cannot list resource .secrets.") as caught:
        api_server.request("GET", "/api/v1/namespaces/default/secrets", context=LIMITED)
    assert caught.value.code == 403


def test_the_kubeconfig_has_a_context_for_each_account_and_no_current_one(api_server: ApiServer) -> None:
    document = json.loads(api_server.kubeconfig.read_text())
    # Other tests may have added more accounts to this server.
    assert [each["name"] for each in document["contexts"]][:2] == ["admin", LIMITED]
    assert document["current-context"] == ""
    assert api_server.kubeconfig.stat().st_mode & 0o777 == 0o600
