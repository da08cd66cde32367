"""The roles that each kind of resource runs. Imports nothing, so that the provider starts without the rest of fleet.stack.

Used by `role_vars` (the variables and files of a resource), fleet.impact and fleet.provider (the roles of a run).
"""

# In this order, as playbooks/KIND.yml does.
ROLES = {
    "host": ("host", "docker", "rocm"),
    "image": ("transformers",),
    "weights": ("weights",),
    "serving": ("vllm",),
    "gateway": ("gateway",),
    "member": ("kubernetes",),
}
# The roles that run on a machine without GPUs.
WITHOUT_GPUS = ("host", "gateway", "kubernetes")
# The role that does not run on a member of the stack's own cluster: containerd is there for the kubelet, and Docker's rules drop what pods forward.
NOT_ON_MEMBERS = "docker"
# The private role that other roles include. A stack sets no variable of it, but its files count as theirs.
HELPER, HELPED = "long_task", ("image", "weights", "serving", "member")
# Role variables that only the program sets: from an output of another resource, or from another key of the stack file.
SET_BY_PROGRAM = {
    "vllm_image": "the resource Image",
    "vllm_model_dir": "the resource Weights",
    "vllm_model_manifest": "the resource Weights",
    "weights_name": "the machine's name",
    "weights_address": "the machine's internal_address",
    "weights_neighbours": "glm-fleet:nodes",
    "gateway_replicas": "the resource Serving",
    "gateway_faces": "glm-fleet:gateway",
    "gateway_name": "the machine's name",
    "gateway_address": "the machine's internal_address",
    "gateway_nodes": "glm-fleet:nodes",
    "gateway_peers": "glm-fleet:gateway",
    "gateway_names": "glm-fleet:gateway",
    "gateway_clients": "glm-fleet:clients",
    "gateway_acme": "glm-fleet:gateway",
    "gateway_virtual_address": "glm-fleet:gateway",
    "kubernetes_part": "glm-fleet:cluster",
    "kubernetes_name": "the machine's name",
    "kubernetes_address": "the machine's internal_address",
    "kubernetes_gpus": "the machine's gpus",
    "kubernetes_endpoint": "glm-fleet:cluster",
    "kubernetes_names": "glm-fleet:cluster",
    "kubernetes_authority": "the resource Member",
}


def of_machine(kind: str, gpus: int, member: bool = False) -> tuple[str, ...]:
    """Return the roles that one kind of resource runs on a machine with so many GPUs; `member`: of the stack's own cluster."""
    roles = (role for role in ROLES[kind] if gpus or role in WITHOUT_GPUS)
    return tuple(role for role in roles if not member or role != NOT_ON_MEMBERS)


def on_machine(gpus: int, member: bool = False) -> list[str]:
    """Return all roles that run on a machine with so many GPUs; `member`: of the stack's own cluster."""
    kinds = ("host", "member") if member else (kind for kind in ROLES if kind != "member")
    return [role for kind in kinds for role in of_machine(kind, gpus, member)]
