"""The serving container has the rights that it needs: GPUs, its own files, one port. The reference recipe has these switches on."""

from collections.abc import Callable, Iterator

from policies.asked import Asked, on
from policies.rule import Breach, Rule

RECIPE = "project notes on serving, Container flags"


def off(variable: str) -> Callable[[Asked], Iterator[Breach]]:
    """Return the judge of a switch of role vllm that must be off."""

    def judge(asked: Asked) -> Iterator[Breach]:
        if on(asked.var(variable)):
            yield Breach(f"{variable} is on")

    return judge


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
    switch(
        "no-host-network",
        "vllm_host_network",
        "The serving container has a network of its own.",
        "the ports of torch.distributed, which ask nobody for a key, are then open on the machine's addresses",
        "the role publishes the API on 127.0.0.1 of the machine",
        f"{RECIPE}; vLLM documentation, Security: inter-node communication",
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
