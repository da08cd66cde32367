"""What may run on a cluster: the rules of machines hold for pods of every kind, and a namespace admits no more than replicas need."""

from typing import Any

import pytest

from policies import pack, pods, stack
from policies.context import Context
from policies.rules import RULES
from policies.stack import Stack
from tests.support import cluster_stack
from tests.support.policy_resources import CLUSTER, KEY, OBJECTS, RIGHT, context, in_pods, messages, only_message


def confined(**more: Any) -> dict[str, Any]:
    """Return the settings of a confined container with more of them."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, **more}


# claim → rule, keys of the pod, keys of its first container, the start of the message
WRONG: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a-privileged-container": (
        "container-not-privileged",
        {},
        {"securityContext": confined(privileged=True)},
        "vllm is privileged",
    ),
    "a-container-that-may-gain-rights": (
        "container-not-privileged",
        {},
        {"securityContext": {"capabilities": {"drop": ["ALL"]}}},
        "vllm has no allowPrivilegeEscalation: false",
    ),
    "a-capability-more": (
        "container-not-privileged",
        {},
        {"securityContext": confined(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]})},
        "vllm adds SYS_ADMIN",
    ),
    "capabilities-that-nobody-drops": (
        "container-not-privileged",
        {},
        {"securityContext": {"allowPrivilegeEscalation": False}},
        "vllm keeps capabilities",
    ),
    "a-container-of-root": (
        "container-not-privileged",
        {},
        {"securityContext": confined(runAsUser=0)},
        "vllm may run as root",
    ),
    "a-pod-that-does-not-say-its-user": (
        "container-not-privileged",
        {"securityContext": {"runAsUser": 10001}},
        {},
        "may run as root",
    ),
    "the-processes-of-the-node": ("container-not-privileged", {"hostPID": True}, {}, "hostPID is on"),
    "a-folder-of-the-node": (
        "container-not-privileged",
        {"volumes": [{"name": "etc", "hostPath": {"path": "/etc"}}]},
        {},
        "the pod mounts /etc of its node",
    ),
    "the-network-of-the-node": ("no-host-network", {"hostNetwork": True}, {}, "hostNetwork is on"),
    "a-port-of-the-node": (
        "no-host-network",
        {},
        {"ports": [{"containerPort": 8000, "hostPort": 80}]},
        "vllm has hostPort 80",
    ),
    "the-memory-of-the-node": ("no-host-ipc", {"hostIPC": True}, {}, "hostIPC is on"),
    "a-container-that-traces": (
        "no-ptrace",
        {},
        {"securityContext": confined(capabilities={"drop": ["ALL"], "add": ["SYS_PTRACE"]})},
        "vllm adds SYS_PTRACE",
    ),
    "processes-in-common": ("no-ptrace", {"shareProcessNamespace": True}, {}, "shareProcessNamespace is on"),
    "no-filter": (
        "seccomp-on",
        {},
        {"securityContext": confined(seccompProfile={"type": "Unconfined"})},
        "the seccomp profile of vllm is Unconfined",
    ),
    "no-profile-at-all": ("seccomp-on", {"securityContext": {}}, {}, "the seccomp profile of"),
    "an-image-by-tag": ("image-by-digest", {}, {"image": "registry.example/glm:latest"}, "the image of vllm in"),
    "weights-in-an-image-by-tag": (
        "image-by-digest",
        {"volumes": [{"name": "weights", "image": {"reference": "registry.example/weights:v1"}}]},
        {},
        "the image of weights in",
    ),
    "a-key-in-clear": (
        "api-key-set-and-secret",
        {},
        {"env": [{"name": "VLLM_API_KEY", "value": KEY}]},
        "vllm in Deployment glm/glm has VLLM_API_KEY in its environment",
    ),
}


@pytest.mark.parametrize("claim", WRONG)
def test_a_right_too_many_is_refused(claim: str) -> None:
    rule, pod, container, start = WRONG[claim]
    texts = messages(rule, in_pods(container=container, **pod))
    assert texts and all(start in text for text in texts)
    assert not any(KEY in text for text in texts)


@pytest.mark.parametrize("kind", pods.PODS)
def test_the_pods_of_every_kind_are_judged(kind: str) -> None:
    for rule in ("no-host-network", "no-host-ipc", "no-ptrace", "seccomp-on", "image-by-digest"):
        assert messages(rule, in_pods(kind)) == []
    assert messages("no-host-network", in_pods(kind, hostNetwork=True)) != []


def test_root_and_three_rights_are_for_the_jobs_of_the_weights_alone() -> None:
    job = Context("Job", "glm-weights/weights", RIGHT["Job"], True, CLUSTER)
    assert messages("container-not-privileged", job) == []
    elsewhere = {**RIGHT["Job"], "metadata": {**RIGHT["Job"]["metadata"], "namespace": "glm"}}
    texts = messages("container-not-privileged", Context("Job", "glm/weights", elsewhere, True, CLUSTER))
    assert any("adds CHOWN, DAC_OVERRIDE, FOWNER" in text for text in texts)
    assert any("may run as root" in text for text in texts)


def test_a_job_fetches_a_full_revision() -> None:
    assert messages("weights-by-revision", Context("Job", "x", RIGHT["Job"])) == []
    command = ["python3", "fetch", "--revision=main"]
    about = in_pods("Job", container={"command": command})
    assert "fetches revision 'main'" in only_message("weights-by-revision", about)


def rollout(**variables: Any) -> Context:
    return context("Rollout", CLUSTER, vars=variables)


def test_a_model_s_flags_versions_and_weights_are_judged_as_on_a_machine() -> None:
    about = {
        "vllm-version-known": rollout(transformers_base_vllm=""),
        "vllm-cve-floor": rollout(transformers_base_vllm="0.14.0"),
        "on-loopback-only": rollout(vllm_flags={"host": "0.0.0.0"}),
        "no-developer-doors": rollout(vllm_environment={"VLLM_SERVER_DEV_MODE": "1"}),
        "media-domains-named": rollout(vllm_flags={}),
        "no-remote-code": rollout(vllm_flags={"trust-remote-code": True}),
        "weights-by-manifest": rollout(weights_endpoint="https://hub.example", weights_manifest={}),
        "nothing-of-the-lab": rollout(weights_endpoint="https://hub.lab.internal"),
        "values-plain": rollout(vllm_flags={"max-model-len": "{{ x }}"}),
        "api-key-set-and-secret": context("Rollout", CLUSTER, api_key="short"),
        "image-by-digest": context("Rollout", CLUSTER, image="registry.example/glm:latest"),
        "replicas-fit-gpus": context(
            "Rollout", CLUSTER, gpus=16, vars={"vllm_flags": {"tensor-parallel-size": 8, "data-parallel-size": 2}}
        ),
        "machines-protected": context("Rollout", CLUSTER, protect=False),
    }
    for name, wrong in about.items():
        assert messages(name, wrong) != [], name
        assert messages(name, context("Rollout", CLUSTER)) == [], name
    unjudged = {rule.name for rule in RULES if "Rollout" in rule.kinds} - about.keys()
    assert unjudged == {"media-path-narrow", "chat-template-given"}, "their inputs are refused by name: kubernetes_vars"


@pytest.mark.parametrize("level", ["privileged", "baseline", ""])
def test_a_namespace_that_admits_more_than_replicas_need_is_refused(level: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    about = Context("Namespace", "glm", {"metadata": {"labels": labels}})
    assert f"namespace glm enforces {level or 'nothing'}" in only_message("namespace-restricted", about)


def test_the_namespaces_of_the_program_pass() -> None:
    for name in ("glm", "glm-weights"):
        assert messages("namespace-restricted", Context("Namespace", name, OBJECTS[f"Namespace/{name}"])) == []
    wrong = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    assert messages("namespace-restricted", Context("Namespace", "glm-weights", wrong)) != []


@pytest.mark.parametrize(
    ("kind", "name", "released"),
    [
        ("Deployment", "glm/glm", "glm"),
        ("Rollout", "glm", "glm"),
        ("Namespace", "glm", "namespace"),
        ("PersistentVolumeClaim", "glm/weights", "namespace"),
    ],
)
def test_what_serves_is_protected_until_it_is_released(kind: str, name: str, released: str) -> None:
    bare = Context(kind, name, {}, protect=False, stack=CLUSTER)
    assert f"{kind} {name} is not protected" in only_message("machines-protected", bare)
    other = Context(kind, name, {}, False, Stack(cluster="prod", release={released: "moves"}))
    lab = Context(kind, name, {}, False, Stack(cluster="glm-fleet-lab"))
    for about in (Context(kind, name, {}, True, CLUSTER), other, lab):
        assert messages("machines-protected", about) == []


def test_a_preview_repeats_what_is_released_on_a_cluster() -> None:
    about = Context("Stack", "s", {}, stack=Stack(cluster="prod", release={"glm": "moves"}))
    message = only_message("machines-released", about)
    assert message.startswith("glm is released (moves): ") and "weights" not in message


def test_the_pack_knows_a_stack_s_cluster() -> None:
    read = stack.read({"glm-fleet:kubernetes": '{"context": "prod"}'}, name="prod")
    assert (read.cluster, read.lab) == ("prod", False)
    assert stack.read({"glm-fleet:kubernetes": '{"context": "glm-fleet-lab"}'}).lab


@pytest.mark.parametrize("home", cluster_stack.HOMES)
def test_every_object_of_the_program_passes_every_rule(home: str) -> None:
    objects = cluster_stack.objects(cluster_stack.stack(weights=cluster_stack.HOMES[home]))
    for key, manifest in objects.items():
        kind, name = key.split("/", 1)
        if pack.kind_of(f"kubernetes:{manifest['apiVersion']}:{kind}"):
            about = Context(kind, name, manifest, True, CLUSTER)
            found = [finding for rule in RULES if kind in rule.kinds for finding in rule.check(about)]
            assert found == [], key
