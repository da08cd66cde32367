"""The text of `fleet plan`: the GPUs of each replica, the content of their memory, the room for requests. Pure.

Of an own cluster it names the members. On a cluster a paragraph is about a model, whose pods are all alike, and the last one about what the nodes must have.

The figures are from `rules.models`: the weights' real size, an estimate of vLLM's own buffers. Called by fleet.cli.plan.
"""

from collections.abc import Iterator, Sequence

from fleet.stack import cluster_form, kubernetes_form, role_vars, rules, settings, validate
from fleet.stack.rules.models import Room

WIDTH = 48  # characters of a bar, which shows the memory of one GPU
LEGEND = "█ weights  ▒ vLLM's own (estimate)  ░ cache  · left free"


def report(stack: settings.Settings, roles: role_vars.Roles) -> str:
    """Return a paragraph for each plan. Machines with the same plan share one."""
    if stack.kubernetes:
        return "\n\n".join(_on_cluster(stack, stack.kubernetes, roles))
    if stack.cluster:
        return "\n".join(_of_own_cluster(stack, stack.cluster, roles))
    plans: dict[str, list[str]] = {}
    for name in stack.machines:
        plans.setdefault("\n".join(_machine(validate.machine_plan(stack, roles, name))), []).append(name)
    return "\n\n".join(f"{_names(names)}: {plan}" for plan, names in plans.items())


def _of_own_cluster(
    stack: settings.Settings, cluster: cluster_form.OwnCluster, roles: role_vars.Roles
) -> Iterator[str]:
    """Yield a line for the cluster, and one for machines that are the same in it."""
    first = validate.machine_plan(stack, roles, cluster.first).values
    engine = first["kubernetes_network_manifest"] or first["kubernetes_network_image"]
    yield f"Kubernetes {first['kubernetes_version']} at {cluster.endpoint or cluster.first}, its network by {engine}"
    members: dict[str, list[str]] = {}
    for name in stack.present:
        part = "worker" if cluster.part(name) == "worker" else "control plane"
        offers = _count(stack.gpus(name), "GPU") if stack.gpus(name) else "no GPUs"
        members.setdefault(f"{part}, {offers}", []).append(name)
    yield from (f"  {_names(names)}: {what}" for what, names in members.items())


def _on_cluster(stack: settings.Settings, cluster: kubernetes_form.Cluster, roles: role_vars.Roles) -> Iterator[str]:
    """Yield a paragraph for each model, and one for all of them."""
    pods = gpus = 0
    for name, model in cluster.models.items():
        plan = validate.model_plan(stack, roles, name)
        pods, gpus = pods + model.replicas, gpus + model.replicas * plan.gpus
        yield "\n".join(_model(name, model, plan))
    place, spare = f"{cluster.namespace} on {cluster.context}", cluster.quota.gpus
    lines = [
        f"{place}: {_count(pods, 'pod')} on {_count(gpus, 'GPU')}; the quota has {spare} more",
        f"  each pod needs its GPUs on one node with {' and '.join(cluster.node_labels)}; `fleet preflight` counts them",
    ]
    yield "\n".join(lines)


def _model(name: str, model: kubernetes_form.Model, plan: rules.MachinePlan) -> Iterator[str]:
    """Yield the lines of one model."""
    served = plan.values.get("vllm_served_model_name") or plan.repository
    yield f"{name}: {_count(model.replicas, 'pod')} of {served} ({plan.repository}), {_count(plan.gpus, 'GPU')} each"
    room = plan.room
    if room is None:
        yield f"  no figures: the size of {plan.repository or 'a model without a name'} is not known"
    else:
        yield from (f"  GPU {gpu:<2} {bar(room)}" for gpu in range(plan.gpus))
        yield f"  {LEGEND}"
        yield from _room(plan, room, "a pod")
    if model.surge:
        added = _count(model.surge * plan.gpus, "more GPU")
        yield f"  a change adds {_count(model.surge, 'pod')} on {added}, and takes none away before that serves"
    else:
        left = model.replicas - 1
        yield f"  a change replaces one pod after the other on the same GPUs; {left} of {model.replicas} stay meanwhile"


def _machine(plan: rules.MachinePlan) -> Iterator[str]:
    """Yield the lines of one machine's plan."""
    if not plan.gpus:
        yield "no GPUs, serves nothing"
        return
    model = plan.values.get("vllm_served_model_name") or plan.repository
    gpus, replicas = _count(plan.gpus, "GPU"), _count(len(plan.replicas), "replica")
    yield f"{gpus}, {replicas} of {model} ({plan.repository})"
    owners = {gpu: replica for replica in plan.replicas for gpu in replica.get("gpus") or ()}
    room = plan.room
    for gpu in range(plan.gpus):
        replica = owners.get(gpu)
        user = "free" if replica is None else replica["name"]
        if replica and plan.network == "host":
            user += f" :{replica.get('port')}"
        yield f"  GPU {gpu:<2} {user:<14} {bar(room) if replica and room else ''}".rstrip()
    if room is None:
        yield f"  no figures: the size of {plan.repository or 'a model without a name'} is not known"
    elif owners:
        yield f"  {LEGEND}"
        yield from _room(plan, room)


def _room(plan: rules.MachinePlan, room: Room, who: str = "a replica") -> Iterator[str]:
    free = room.memory - room.usable
    yield (
        f"  a GPU:     {_gb(room.weights)} of {_gb(room.memory)} weights, {_gb(room.reserve)} vLLM's own, "
        f"{_gb(max(0, room.cache))} cache, {_gb(free)} left free"
    )
    if room.tokens > 0 and plan.context:
        at_once = room.tokens / plan.context
        yield f"  {who + ':':<10} {room.tokens:,} tokens of cache, {at_once:.1f} requests of {plan.context:,} tokens at once"
    else:
        yield f"  {who + ':':<10} no room for a cache"


def bar(room: Room) -> str:
    """Return the memory of one GPU as a bar."""
    parts = {"█": room.weights, "▒": room.reserve, "░": max(0, room.cache)}
    drawn = "".join(sign * round(WIDTH * size / room.memory) for sign, size in parts.items())[:WIDTH]
    return drawn.ljust(WIDTH, "·")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.0f} GB"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"
