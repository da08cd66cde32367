"""The road onto a Kubernetes cluster, between a stack and Pulumi: declares its objects, and the inputs and outputs of each model's Rollout.

The objects themselves are in fleet.program.kubernetes. Needs the SDK of requirements/kubernetes.txt. Called by `__main__.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from fleet import errors, program, resources
from fleet.program import kubernetes, machines
from fleet.sdk_patches import failure_isolation


class RefusedError(errors.FleetError):
    """The provider's whole message about a cluster that the stack cannot use."""

    def __str__(self) -> str:
        return self.seen


@dataclass(frozen=True)
class Deployment:
    """The Deployment of one model: the object, and the resource that was declared from it."""

    object: kubernetes.Object
    resource: pulumi.Resource


def deployments(plan: program.Plan) -> Mapping[str, Deployment]:
    """Declare every object of the stack; return the Deployment of each model."""
    with machines.sdk("cluster", "pulumi-kubernetes", "kubernetes"):
        from fleet.program.kubernetes import declare  # of an SDK that a stack of machines does not need

    stack, config = plan.on_cluster, pulumi.Config()
    nodes = _nodes(plan, stack)
    token = config.get_secret("weights_token")
    key = program.api_key().apply("VLLM_API_KEY={}\n".format)
    objects = {item.key: item for item in kubernetes.objects(stack, _plain_key(), nodes, key, token)}
    declared = declare.declare(stack, objects.values(), declare.provider(stack))
    keys = {model: f"Deployment/{stack.cluster.namespace}/{model}" for model in stack.cluster.models}
    return {model: Deployment(objects[key], declared[key]) for model, key in keys.items()}


def protected(plan: program.Plan, model: str) -> bool:
    """Return whether Pulumi refuses to delete or replace what belongs to a model."""
    return plan.on_cluster.protects(model)


def rollout(plan: program.Plan, deployment: Deployment) -> dict[str, Any]:
    """Return the inputs of the Rollout of a model's Deployment."""
    inputs = kubernetes.rollout(plan.on_cluster, deployment.object)
    return {**inputs, "probes": plan.probes, "api_key": program.api_key()}


def evidence(plan: program.Plan, model: str, rollout: resources.Rollout) -> pulumi.Output[dict[str, Any] | None]:
    """Return what `fleet show` and `fleet probe` need of one model; None after a failure."""
    stack = plan.on_cluster
    known = {
        "cluster": kubernetes.cluster_inputs(stack),
        "namespace": stack.cluster.namespace,
        "image": stack.cluster.image,
        "revision": stack.values(model).get("weights_revision", ""),
        **kubernetes.urls(stack, model),
    }
    parts = {"pods": rollout.pods, "probes": rollout.verdict, "seconds": rollout.seconds}
    return failure_isolation.together(
        lambda values: {**known, **dict(zip(parts, values, strict=True))}, *parts.values()
    )


def _nodes(plan: program.Plan, stack: kubernetes.Stack) -> list[str]:
    """Return the names of the cluster's GPU nodes. Raises FleetError for a cluster that this stack cannot use, before anything is declared there."""
    root = f"{pulumi.get_project()}-{pulumi.get_stack()}"
    beside = f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::pulumi:pulumi:Stack::{root}"
    question = {**kubernetes.node_question(stack), "beside": beside}
    options = pulumi.InvokeOptions(provider=plan.fleet)
    answer = pulumi.runtime.invoke("fleet:index:cluster_nodes", question, options).value or {}
    if error := answer.get("error"):
        raise RefusedError(seen=str(error))
    return list(answer.get("nodes", []))


def _plain_key() -> str:
    """Return the API key, of which only a digest goes into a name."""
    return pulumi.Config().require("vllm_api_key")
