"""The serving container has the rights that it needs: GPUs, its own files, one socket. The reference recipe has these switches on."""

from collections.abc import Callable, Iterator

from policies.context import Context, on
from policies.rule import Rule, Violation

RECIPE = "project notes on serving, Container flags"


def off(variable: str) -> Callable[[Context], Iterator[Violation]]:
    """Return the judge of a switch of role vllm that must be off."""

    def judge(context: Context) -> Iterator[Violation]:
        if on(context.var(variable)):
            yield Violation(f"{variable} is on")

    return judge


def no_host_network(context: Context) -> Iterator[Violation]:
    """Yield where the container has the host's network, and where its port is on every address of the host."""
    switch_on, network = on(context.var("vllm_host_network")), context.var("vllm_network")
    if not switch_on and network in (None, "none", "bridge"):
        return
    yield Violation("vllm_host_network is on" if switch_on else f"vllm_network is {network}")
    address = context.var("vllm_host_address")
    if address not in (None, "127.0.0.1"):
        yield Violation(
            f"vllm_host_address is {address}",
            "/invocations, /tokenize and /metrics are then open, without a key, to whoever reaches the machine",
            "leave vllm_host_address out; a proxy with a list of allowed paths stands before a replica",
        )


def no_way_out(context: Context) -> Iterator[Violation]:
    """Yield where the container can open connections through a bridge."""
    if context.var("vllm_network") == "bridge" and not on(context.var("vllm_host_network")):
        yield Violation("vllm_network is bridge")


def switch(name: str, variable: str, holds: str, reason: str, remedy: str, source: str = RECIPE) -> Rule:
    """Return the rule that one switch is off."""
    return Rule(name, holds, reason, f"leave {variable} out; {remedy}", source, ("Serving",), off(variable))


RULES = (
    switch(
        "container-not-privileged",
        "vllm_privileged",
        "The serving container runs with the devices it needs, and with no other right over its host.",
        "whoever breaks into the model server is root on the machine and owns all its GPUs",
        "role vllm passes /dev/kfd and the replica's render nodes, which is enough",
    ),
    Rule(
        name="no-host-network",
        holds="The serving container does not have the network of its host.",
        reason="the ports of torch.distributed, which ask nobody for a key, are then open on the machine's addresses",
        remedy="leave vllm_host_network and vllm_network out; the server then listens on a unix socket of the machine",
        source=f"{RECIPE}; vLLM documentation, Security: inter-node communication",
        kinds=("Serving",),
        judge=no_host_network,
    ),
    Rule(
        name="no-way-out",
        holds="The serving container has no network.",
        reason="whoever breaks into the model server reaches what the machine reaches: its neighbours, the services on its bridge, and in a"
        " cloud 169.254.169.254, which gives out the machine's credentials and user data",
        remedy="leave vllm_network out where requests bring media as data: URLs; where they name media hosts, bar 169.254.169.254 and private"
        " addresses for containers in the machine's firewall",
        source="this project: roles/vllm/templates/replica.service.j2; moby documentation: bridge networks",
        kinds=("Serving",),
        judge=no_way_out,
        level="advisory",
    ),
    switch(
        "no-host-ipc",
        "vllm_ipc_host",
        "The serving container has shared memory of its own.",
        "replicas on one machine could read each other's requests in /dev/shm",
        "vllm_shm_size (16g to 64g) gives each replica as much as it needs",
    ),
    switch(
        "no-ptrace",
        "vllm_ptrace",
        "No process of the serving container may trace another.",
        "it is of use to a debugger, and to whoever wants the API key out of the server's memory",
        "for an hour of debugging take a waiver with that day's date",
    ),
    switch(
        "seccomp-on",
        "vllm_seccomp_unconfined",
        "The system call filter of the container is on.",
        "without it every system call of the shared kernel can be attacked from the container",
        "only NUMA placement asks for more, and works without",
    ),
)
