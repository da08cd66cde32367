"""Claims about `fleet preflight` and the admission of a real cluster: what it would refuse is an error with its words, and nothing is made.

Server dry runs of the stack's own objects. Policies and webhooks are the API server's; no webhook's server is there, none is called.
"""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fleet.cli import cluster_requirements
from fleet.cluster import Access, Cluster, namespaces
from fleet.preflight import cluster as preflight
from fleet.preflight import cluster_admission
from fleet.preflight.cluster_admission import StackObject
from fleet.preflight.form import CheckResult
from tests.support import api_server as support
from tests.support import cluster_stack
from tests.support.api_server import ApiServer
from tests.support.cluster_stack import HOMES

POLICY = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = f"{POLICY[: -len('policies')]}policybindings"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def judge(
    server: ApiServer, objects: list[StackObject], context: str = "admin", closed: Mapping[str, str] = {}
) -> list[CheckResult]:
    """Return what is not fine, and last the summary."""
    cluster = Cluster(Access(context, str(server.kubeconfig)))
    return list(cluster_admission.check(cluster, objects, closed))


def of_stack(namespace: str, **keys: Any) -> list[StackObject]:
    stack = cluster_stack.stack(namespace=namespace, **keys)
    return list(cluster_requirements.of_stack("prod", stack.settings, stack.roles).objects)


def namespaces_of(server: ApiServer, objects: list[StackObject]) -> list[StackObject]:
    """Make the namespaces; return the objects."""
    server.apply(*(dict(each.manifest) for each in objects if each.manifest["kind"] == "Namespace"))
    return objects


def in_place(objects: list[StackObject], kind: str, change: Any) -> list[StackObject]:
    """Return the objects with a change of the manifests of this kind."""
    others = []
    for each in objects:
        manifest = copy.deepcopy(dict(each.manifest))
        if manifest["kind"] == kind:
            change(manifest)
        others.append(dataclasses.replace(each, manifest=manifest))
    return others


@pytest.mark.parametrize("home", HOMES)
def test_every_object_and_pod_of_a_right_stack_is_judged_and_nothing_is_made(api_server: ApiServer, home: str) -> None:
    space = f"judged-{home}"
    keys: dict[str, Any] = {"endpoint": {"gateway": {"name": "inference", "namespace": "gateways"}}}
    keys["models"] = {"glm": {"replicas": 2, "host": "glm.example.com"}}
    objects = namespaces_of(api_server, of_stack(space, weights=HOMES[home], **keys))
    [summary] = judge(api_server, objects)
    pods = sum(each.manifest["kind"] in ("Deployment", "Job") for each in objects)
    assert summary.level == "ok"
    assert summary.seen == f"{len(objects)} objects were judged, and pods of {pods}"
    assert any(each.manifest["kind"] == "HTTPRoute" for each in objects)
    for kind in ("apis/apps/v1", "api/v1"):
        name = "deployments" if "apps" in kind else "secrets"
        assert not api_server.request("GET", f"/{kind}/namespaces/{space}/{name}")["items"]


def test_objects_of_a_namespace_that_is_not_there_are_named_as_not_judged(api_server: ApiServer) -> None:
    stack = cluster_stack.stack(namespace="absent")
    wanted = cluster_requirements.of_stack("prod", stack.settings, stack.roles)
    results = [
        each
        for each in preflight.check(Cluster(Access("admin", str(api_server.kubeconfig))), wanted)
        if each.check == cluster_admission.CHECK
    ]
    assert [each.level for each in results] == ["warning", "warning", "ok"]
    assert results[0].seen.startswith("not judged: ResourceQuota absent/models, NetworkPolicy absent/default-deny, ")
    assert results[0].seen.endswith("more: namespace absent is not there yet")
    assert results[2].seen.startswith("4 objects were judged")  # the two namespaces and the two volumes


@pytest.fixture
def policy(api_server: ApiServer) -> Iterator[str]:
    """A policy of the cluster's owner: no image of another registry than his."""
    rule = {
        "expression": "object.spec.containers.all(each, each.image.startsWith('registry.internal/'))",
        "message": "images come from registry.internal",
    }
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    spec = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [pods]}, "validations": [rule]}
    version = {"apiVersion": "admissionregistration.k8s.io/v1"}
    named = {"metadata": {"name": "registry"}}
    api_server.request("POST", POLICY, {**version, "kind": "ValidatingAdmissionPolicy", **named, "spec": spec})
    only = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "policy"}}}
    bound = {"policyName": "registry", "validationActions": ["Deny"], "matchResources": only}
    api_server.request(
        "POST", BINDINGS, {**version, "kind": "ValidatingAdmissionPolicyBinding", **named, "spec": bound}
    )
    yield "registry"
    for path in (BINDINGS, POLICY):
        api_server.request("DELETE", f"{path}/registry")


def test_what_a_policy_of_the_cluster_refuses_is_an_error_with_its_words_for_each_object(
    api_server: ApiServer, policy: str
) -> None:
    models = {"glm": {"replicas": 2}, "air": {"replicas": 1}}
    objects = namespaces_of(api_server, of_stack("policy", models=models))
    # The server needs a moment before it applies a new policy.
    support.wait(lambda: len(judge(api_server, objects)) > 1, f"the policy {policy} is in force")
    *refused, summary = judge(api_server, objects)
    assert [each.level for each in refused] == ["error", "error"]
    for each, model in zip(refused, ("glm", "air"), strict=True):
        assert each.seen.startswith(f"a pod of Deployment policy/{model}: ")
        assert each.seen.endswith("denied request: images come from registry.internal")
        assert each.next == "change what the stack file says of it, or ask the cluster's owner about this rule"
    assert summary.level == "ok"


def test_a_webhook_that_nobody_answers_is_an_error_with_the_server_s_words(api_server: ApiServer) -> None:
    objects = namespaces_of(api_server, of_stack("hooked"))
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
    hook = {
        "name": "hook.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "hooked"}},
        "sideEffects": "NoneOnDryRun",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    api_server.request("POST", HOOKS, {**body, "metadata": {"name": "hook"}, "webhooks": [hook]})
    try:
        support.wait(lambda: len(judge(api_server, objects)) > 1, "the webhook is in force")
        refused, _ = judge(api_server, objects)
    finally:
        api_server.request("DELETE", f"{HOOKS}/hook")
    assert refused.level == "error"
    assert refused.seen.startswith("ConfigMap hooked/serving-")
    assert 'failed calling webhook "hook.example.com"' in refused.seen


def grant_ptrace(manifest: dict[str, Any]) -> None:
    manifest["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = ["SYS_PTRACE"]


def test_a_pod_that_pod_security_refuses_is_one_error_with_and_without_the_right_to_create_pods(
    api_server: ApiServer,
) -> None:
    objects = namespaces_of(api_server, in_place(of_stack("security"), "Deployment", grant_ptrace))
    refused, summary = judge(api_server, objects)
    assert refused.level == "error"
    assert refused.seen.startswith("a pod of Deployment security/glm: pods ")
    assert 'violates PodSecurity "restricted:latest": unrestricted capabilities' in refused.seen
    assert summary.seen.endswith("and pods of 2")
    verbs = {"verbs": ["get", "patch", "create"], "resources": ["*"]}
    rules = [{"apiGroups": ["apps", "batch", "networking.k8s.io", "policy"], **verbs}]
    rules += [{"apiGroups": [""], **verbs, "resources": ["configmaps", "secrets", "services", "resourcequotas"]}]
    rules += [{"apiGroups": [""], **verbs, "resources": ["persistentvolumeclaims"]}]
    api_server.add_account("podless", "security", rules)
    *refused, summary = judge(api_server, [each for each in objects if each.namespace == "security"], "podless")
    assert [each.level for each in refused] == ["error"]
    assert refused[0].seen.startswith("Deployment security/glm: would violate PodSecurity")
    assert summary.seen.endswith("not their pods, which this account may not create")


def test_an_account_without_rights_judges_nothing_and_says_so(api_server: ApiServer) -> None:
    objects = namespaces_of(api_server, of_stack("rightless"))
    unjudged, summary = judge(api_server, objects, "limited")
    assert unjudged.level == "warning"
    assert unjudged.seen.endswith(cluster_admission.RIGHTS)
    assert summary.seen.startswith("0 objects were judged")


def test_a_change_is_judged_as_the_one_who_made_the_object_and_what_cannot_change_is_said(
    api_server: ApiServer,
) -> None:
    before = namespaces_of(api_server, of_stack("changes"))
    query = {"fieldManager": "pulumi-kubernetes-0a1b2c3d", "force": "true"}
    for each in before:
        api_server.request("PATCH", each.path, dict(each.manifest), form="apply-patch+yaml", **query)
    # The volume `weights` of the pods is another kind of volume now: with the old one's fields beside it the server would refuse it.
    [summary] = judge(api_server, of_stack("changes", weights=HOMES["image"]))
    assert summary.level == "ok"
    elsewhere = {"home": "nodes", "path": "/srv/models"}
    *fixed, summary = judge(api_server, of_stack("changes", weights=elsewhere))
    assert {each.level for each in fixed} == {"warning"}
    assert [each.seen.partition(":")[0] for each in fixed] == [
        "PersistentVolume changes-weights-files",
        "PersistentVolume changes-weights-weights-files",
    ]
    assert "immutable after creation" in fixed[0].seen


def test_the_owner_of_the_objects_is_the_stack_as_the_program_names_it() -> None:
    [space, *_] = of_stack("owned")
    assert space.manifest["metadata"]["annotations"][namespaces.OWNER] == "organization/glm-fleet/prod"
