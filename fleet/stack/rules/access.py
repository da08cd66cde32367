"""Rules about who may read and reach what on a machine: the containers the model, the node proxy the replicas."""

from collections.abc import Iterator

from fleet.stack.rules.rule import MachinePlan, StackFinding, at_key, rule

PROXY_GROUP = "fleet-proxy"  # roles/vllm/vars/main.yml: _vllm_proxy_group


@rule(
    reason="vLLM could not open the model: each replica would end minutes later, with a message about config.json",
    source="roles/weights: files of the model have mode 0640; roles/vllm/templates/replica.service.j2: --user",
)
def model_readable(plan: MachinePlan) -> Iterator[StackFinding]:
    """The replicas' containers run as the group, or as the user, that may read the model."""
    (group, user), (reader, owner) = (
        [str(plan.values.get(f"{role}_{what}", "")) for what in names]
        for role, names in (("vllm", ("group", "user")), ("weights", ("group", "owner")))
    )
    known = group.isdecimal() and reader.isdecimal()  # an expression has its value only when Ansible runs
    if known and not plan.pod and group != reader and user != owner:
        yield at_key(
            "vllm_group", f"the model is readable for group {reader} (weights_group)", f"{reader}, or both", group
        )


@rule(
    reason="the node proxy would lose its replicas with the next change, and the change would fail and go back",
    source="roles/gateway/templates/proxy.cfg.j2; roles/vllm: vllm_socket_group, vllm_network",
)
def proxy_reaches_replicas(plan: MachinePlan) -> Iterator[StackFinding]:
    """With a gateway the replicas listen on sockets, which the group of the node proxy may open."""
    if not plan.gateway:
        return
    group = plan.values.get("vllm_socket_group", PROXY_GROUP)
    if plan.network == "host":
        key = "vllm_network" if plan.values.get("vllm_network") == "host" else "vllm_host_network"
        seen = "the replicas listen on ports of the host, and the node proxy expects their sockets"
        yield at_key(key, seen, "vllm_network none or bridge, or a stack without `gateway`", plan.values.get(key))
    elif group != PROXY_GROUP:
        seen = f"the node proxy's group {PROXY_GROUP} may not open the replicas' sockets"
        yield at_key("vllm_socket_group", seen, f"{PROXY_GROUP}, or a stack without `gateway`", group)
