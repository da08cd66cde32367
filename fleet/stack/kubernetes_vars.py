"""The role variables that have a meaning on a Kubernetes cluster, and why the others have none.

Pure. Called by `validate`, which refuses the others by name, and by fleet.program.kubernetes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet import errors
from fleet.stack import kubernetes_form, text_forms
from fleet.stack.resource_roles import SET_BY_PROGRAM

RESTRICTED = "Pod Security `restricted`, which the namespace enforces, refuses such a pod"
OWNER = "the cluster's owner sets up its nodes"
KUBELET = "the kubelet's own settings decide it"
NO_ROLE = {
    "host": OWNER,
    "docker": OWNER,
    "rocm": OWNER,
    "gateway": "the cluster's own Gateway or Ingress is before the models",
    "kubernetes": "the cluster exists; the stack with `cluster` made it, or its owner did",
}
JOBS = "a Job fetches to each home of the weights from the hub"
BUILT = "the image is built by a stack with `nodes`; `kubernetes.image` names it"
# Variables of roles that have a meaning there → why not these.
REFUSED = {
    "vllm_ptrace": RESTRICTED,
    "vllm_seccomp_unconfined": RESTRICTED,
    "vllm_privileged": RESTRICTED,
    "vllm_ipc_host": RESTRICTED,
    "vllm_host_network": RESTRICTED,
    "vllm_network": "a pod has the cluster's network, and the NetworkPolicy lets it open no connection",
    "vllm_host_address": "a pod listens on its own address",
    "vllm_socket_group": "a pod listens on a port, not on a socket of its node",
    "vllm_media_dir": "a pod has no folder of its node; requests bring media as data: URLs",
    "vllm_cache_dir": "each pod has a cache of its own, which ends with it",
    "vllm_start_timeout": "the cache of a pod begins empty: `vllm_cold_start_timeout` is for each start",
    "vllm_replicas": "`replicas` of the model says how many pods serve it",
    "vllm_pids_limit": KUBELET,
    "vllm_pull_timeout": KUBELET,
    "weights_from_neighbours": JOBS,
    "weights_port": JOBS,
    "weights_megabytes_per_second": JOBS,
    "weights_dir": "`kubernetes.weights` says where the weights are",
}
# The only variable of role transformers: rules and policies know an image's faults by its vLLM version.
VERSION = "transformers_base_vllm"
FETCHED = "weights_"


def refusal(name: str, cluster: kubernetes_form.Cluster) -> str:
    """Return why a role variable has no meaning on the cluster, or "" where it has one."""
    role = name.partition("_")[0]
    if name.startswith(FETCHED) and not cluster.filled:
        return "the weights are in the image of `kubernetes.weights`: nothing fetches them"
    if role == "transformers":
        return "" if name == VERSION else BUILT
    return REFUSED.get(name) or NO_ROLE.get(role, "")


def mistakes(
    values: Mapping[str, Any], cluster: kubernetes_form.Cluster, file: str, key: str
) -> Iterator[errors.SettingsError]:
    """Yield the variables at `key` that have no meaning on a cluster, and the values that only Ansible could evaluate."""
    for name, value in values.items():
        if name not in SET_BY_PROGRAM and (why := refusal(name, cluster)):
            seen, allowed = "has no meaning on Kubernetes", f"leave it out: {why}"
            yield errors.SettingsError(file=file, key=f"{key}.{name}", seen=seen, allowed=allowed)
        for place, text in text_forms.expressions(value, f"{key}.{name}"):
            seen, allowed = "holds an expression, which only Ansible evaluates", "the value itself"
            yield errors.SettingsError(file=file, key=place, value=text, seen=seen, allowed=allowed)
