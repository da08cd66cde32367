"""Resources for the policy pack: valid ones, with the changes of a test. Used by tests/unit/test_policies_*."""

import copy
from collections.abc import Mapping
from typing import Any

from policies import pods
from policies.context import Context
from policies.rule import ResourceRule
from policies.rules import RULES
from policies.stack import Stack
from tests.support import cluster_of_machines, cluster_stack

DIGEST = "registry.example/glm@sha256:" + "ab" * 32
COMMIT = "12" * 20
KEY = "0123456789abcdef0123456789abcdef"
PROD = Stack(source="ssh")

CLUSTER = Stack(cluster="prod")
OBJECTS = cluster_stack.objects(cluster_stack.stack())
JOB = next(manifest for key, manifest in OBJECTS.items() if key.startswith("Job/"))


def wrapped(kind: str) -> dict[str, Any]:
    """Return an object of a kind that makes the pods of a replica."""
    if kind == "Job":
        return dict(JOB)
    inner: dict[str, Any] = OBJECTS["Deployment/glm/glm"]["spec"]["template"]
    for part in reversed(pods.TEMPLATES[kind]):
        inner = {part: inner}
    return {**inner, "metadata": {"name": "glm", "namespace": "glm"}}


# The inputs of valid resources; a rule reads those of other kinds, too.
RIGHT: Mapping[str, Mapping[str, Any]] = {
    "BareMetal": {"name": "prod-1", "bmc": "https://192.0.2.111"},
    "Node": {"name": "prod-1", "address": "192.0.2.11", "gpus": 8},
    "Host": {"vars": {"rocm_version": "7.2.3", "rocm_driver_release": "30.30.3"}},
    "Image": {
        "vars": {
            "transformers_base_image": DIGEST,
            "transformers_base_vllm": "0.32.0",
            "transformers_commit": COMMIT,
        }
    },
    "Weights": {"vars": {"weights_revision": COMMIT}},
    "Serving": {
        "image": DIGEST,
        "api_key": KEY,
        "vars": {"vllm_image": DIGEST, "vllm_flags": {"allowed-media-domains": ["none.invalid"]}},
    },
    "Gateway": {
        "inner_key": KEY,
        "vars": {"gateway_faces": ["clients"], "gateway_clients": {"team-a": {"sha256": "5f" * 32}}},
    },
    "Member": {"vars": cluster_of_machines.VARS},
    "Rollout": {
        "image": DIGEST,
        "api_key": KEY,
        "gpus": 4,
        "vars": {
            "transformers_base_vllm": "0.32.0",
            "vllm_flags": {"tensor-parallel-size": 4, "allowed-media-domains": ["none.invalid"]},
        },
    },
    **{kind: wrapped(kind) for kind in pods.PODS},
    "Namespace": OBJECTS["Namespace/glm"],
    "PersistentVolumeClaim": OBJECTS["PersistentVolumeClaim/glm/weights"],
    "Stack": {},
}


def rule(name: str) -> ResourceRule:
    """Return a rule by its name."""
    return next(rule for rule in RULES if rule.name == name)


def context(kind: str = "Serving", /, stack: Stack = PROD, protect: bool = True, **inputs: Any) -> Context:
    """Return a valid resource with some inputs changed. `vars` is merged into the valid ones; None removes an input."""
    right = RIGHT[kind]
    variables = inputs.pop("vars", {})
    merged = {**right.get("vars", {}), **variables} if isinstance(variables, Mapping) else variables
    changed = {**right, **inputs, **({"vars": merged} if merged else {})}
    props = {name: value for name, value in changed.items() if value is not None}
    others = {(other, "prod-1"): props for other, props in RIGHT.items() if other != kind}
    return Context(kind, "prod-1", props, protect, stack, others)


def messages(name: str, about: Context) -> list[str]:
    """Return the messages of a rule about a resource."""
    resource_rule = rule(name)
    assert about.kind in resource_rule.kinds
    return [resource_rule.message(finding) for finding in resource_rule.check(about)]


def only_message(name: str, about: Context) -> str:
    """Return the only message of a rule about a resource."""
    (message,) = messages(name, about)
    return message


def serving(**variables: Any) -> Context:
    """Return a valid Serving with some role variables changed."""
    return context("Serving", vars=variables)


def in_pods(kind: str = "Deployment", container: Mapping[str, Any] | None = None, **pod: Any) -> Context:
    """Return an object of a kind whose pods have these keys in their specification, and these in their first container."""
    inputs = copy.deepcopy(dict(RIGHT[kind]))
    about = Context(kind, "glm/glm", inputs, True, CLUSTER)
    spec = pods.spec(about)
    spec.update(pod)  # type: ignore[attr-defined]
    spec["containers"][0].update(container or {})
    return about


def flags(**values: Any) -> Context:
    """Return a valid Serving with some flags changed: underscores become dashes, None removes a flag."""
    right = RIGHT["Serving"]["vars"]["vllm_flags"]
    merged = {**right, **{name.replace("_", "-"): value for name, value in values.items()}}
    return serving(vllm_flags={name: value for name, value in merged.items() if value is not None})
