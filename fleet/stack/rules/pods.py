"""Rules about a replica that is a pod on a cluster: it fits one node, and Pod Security `restricted` admits it."""

from collections.abc import Iterator

from fleet.stack.rules.gpus import PARALLEL
from fleet.stack.rules.rule import MachinePlan, StackFinding, at_key, rule

NODE = 8  # GPUs of one MI300X machine
IDS = ("vllm_user", "vllm_group")


@rule(
    reason="the scheduler puts a pod on one node: it would wait for ever",
    source="fleet/program/kubernetes/serving.py: a pod asks for tensor x pipeline x data parallelism GPUs; an MI300X machine has 8",
)
def pod_fits_node(plan: MachinePlan) -> Iterator[StackFinding]:
    """A replica on a cluster needs at most the 8 GPUs of one node."""
    if plan.pod and plan.gpus > NODE:
        words = " x ".join(f"{flag} {plan.count(flag)}" for flag in PARALLEL if plan.count(flag) > 1)
        seen = f"{words} are {plan.gpus} GPUs, and a pod is on one node"
        largest = max(PARALLEL, key=plan.count)
        yield at_key(f"vllm_flags.{largest}", seen, f"at most {NODE} GPUs in all", plan.count(largest))


@rule(
    reason="Pod Security `restricted`, which the namespace enforces, refuses a pod of root",
    source="Kubernetes documentation, Pod Security Standards: runAsNonRoot, runAsUser",
)
def pod_not_root(plan: MachinePlan) -> Iterator[StackFinding]:
    """On a cluster the server's user and group are not root."""
    for name in IDS if plan.pod else ():
        if plan.values.get(name) == 0:
            yield at_key(name, "root", "a number of its own, e.g. 10001", 0)


@rule(
    reason="a pod has no file of its node",
    source="fleet/program/kubernetes/serving.py: a pod mounts the weights, and nothing else of the node",
)
def template_in_weights(plan: MachinePlan) -> Iterator[StackFinding]:
    """On a cluster the chat template is a file of the weights."""
    template = str(plan.values.get("vllm_chat_template") or "")
    if plan.pod and template.startswith("/"):
        yield at_key(
            "vllm_chat_template", "a file of the node", "a file below the model's folder, or leave it out", template
        )
