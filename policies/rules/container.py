"""The serving container has only the rights that it needs: GPUs, its own files, one socket. The reference recipe turns these switches on.

On machines the switches of role vllm decide it, on a cluster what the pods of an object may.
"""

from collections.abc import Callable, Iterator

from fleet.findings import Finding
from policies import pods
from policies.context import Context, on
from policies.rule import ResourceRule

RECIPE = "project notes on serving, Container flags"


InPods = Callable[[Context], Iterator[str]]


def off(variable: str, in_pods: InPods) -> Callable[[Context], Iterator[Finding]]:
    """Return the check of a switch of role vllm that must be off, and of pods that have the same right."""

    def check(context: Context) -> Iterator[Finding]:
        if context.kind in pods.PODS:
            yield from _in_pods(context, in_pods)
        elif on(context.var(variable)):
            yield Finding(f"{variable} is on")

    return check


def _in_pods(context: Context, in_pods: InPods) -> Iterator[Finding]:
    for seen in in_pods(context):
        yield Finding(f"{context.kind} {context.name}: {seen}", next="leave it out of the object")


def no_host_network(context: Context) -> Iterator[Finding]:
    """Yield the host's network, and a port on every address of the host."""
    if context.kind in pods.PODS:
        yield from _in_pods(context, pods.host_network)
        return
    switch_on, network = on(context.var("vllm_host_network")), context.var("vllm_network")
    if not switch_on and network in (None, "none", "bridge"):
        return
    yield Finding("vllm_host_network is on" if switch_on else f"vllm_network is {network}")
    address = context.var("vllm_host_address")
    if address not in (None, "127.0.0.1"):
        yield Finding(
            f"vllm_host_address is {address}",
            reason="/invocations, /tokenize and /metrics are then open, without a key, to anyone who reaches the machine",
            next="leave vllm_host_address out; put a proxy with a list of allowed paths before the replica",
        )


def no_way_out(context: Context) -> Iterator[Finding]:
    """Yield a bridge, through which the container can open connections."""
    if context.var("vllm_network") == "bridge" and not on(context.var("vllm_host_network")):
        yield Finding("vllm_network is bridge")


def switch(
    name: str, variable: str, in_pods: InPods, holds: str, reason: str, remedy: str, source: str = RECIPE
) -> ResourceRule:
    """Return the rule that a switch is off."""
    return ResourceRule(
        name=name,
        holds=holds,
        reason=reason,
        remedy=f"leave {variable} out; {remedy}",
        source=source,
        kinds=("Serving", *pods.PODS),
        check=off(variable, in_pods),
    )


RULES = (
    switch(
        "container-not-privileged",
        "vllm_privileged",
        pods.privileges,
        "The serving container has the devices that it needs, and no other right over its host.",
        "an attacker who breaks into the vLLM server becomes root on the machine, with all its GPUs",
        "role vllm passes /dev/kfd and the replica's render nodes, which is enough",
    ),
    ResourceRule(
        name="no-host-network",
        holds="The serving container does not have the network of its host.",
        reason="the ports of torch.distributed, which ask for no key, are then open on the machine's addresses",
        remedy="leave vllm_host_network and vllm_network out; the server then listens on a unix socket of the machine",
        source=f"{RECIPE}; vLLM documentation, Security: inter-node communication",
        kinds=("Serving", *pods.PODS),
        check=no_host_network,
    ),
    ResourceRule(
        name="no-way-out",
        holds="The serving container has no network.",
        reason="an attacker who breaks into the vLLM server reaches what the machine reaches: its neighbours, the services on its bridge, and"
        " in a cloud 169.254.169.254, which hands out the machine's credentials and user data",
        remedy="leave vllm_network out where requests bring media as data: URLs; where they name media hosts, let the machine's firewall"
        " refuse 169.254.169.254 and private addresses for containers",
        source="this project: roles/vllm/templates/replica.service.j2; moby documentation: bridge networks",
        kinds=("Serving",),
        check=no_way_out,
        level="warning",
    ),
    switch(
        "no-host-ipc",
        "vllm_ipc_host",
        pods.host_ipc,
        "The serving container has its own shared memory.",
        "replicas on one machine can otherwise read each other's requests in /dev/shm",
        "vllm_shm_size (16g to 64g) gives each replica as much as it needs",
    ),
    switch(
        "no-ptrace",
        "vllm_ptrace",
        pods.tracing,
        "No process of the serving container may trace another.",
        "tracing serves a debugger, and an attacker who reads the API key from the server's memory",
        "for an hour of debugging use a waiver that expires the same day",
    ),
    switch(
        "seccomp-on",
        "vllm_seccomp_unconfined",
        pods.no_seccomp,
        "The container's system call filter is on.",
        "without it the container can attack every system call of the shared kernel",
        "only NUMA placement needs more, and works without",
    ),
)
