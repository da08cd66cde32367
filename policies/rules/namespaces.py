"""The namespaces of a stack on a Kubernetes cluster: Pod Security admits no pod there with more rights than a replica needs."""

from collections.abc import Iterator

from fleet.findings import Finding
from policies.context import Context, value_at
from policies.rule import ResourceRule

ENFORCE = "pod-security.kubernetes.io/enforce"


def restricted(context: Context) -> Iterator[Finding]:
    """Yield a namespace that admits more than `restricted`; one for the Jobs of the weights may admit `baseline`."""
    level = value_at(context.inputs, "metadata", "labels", ENFORCE, absent="nothing")
    allowed = ("restricted", "baseline") if context.name.endswith("-weights") else ("restricted",)
    if level is not None and level not in allowed:
        yield Finding(f"namespace {context.name} enforces {level}", next=f"the label {ENFORCE}: {allowed[-1]}")


RULES = (
    ResourceRule(
        name="namespace-restricted",
        holds="A namespace with replicas enforces Pod Security `restricted`; that of the weights' Jobs at least `baseline`.",
        reason="a pod of anybody who may create one there could take over its node, with all its GPUs",
        remedy="leave the label as this project sets it",
        source="Kubernetes documentation, Pod Security Standards; fleet/program/kubernetes/namespace.py",
        kinds=("Namespace",),
        check=restricted,
    ),
)
