"""The text of `fleet plan`: the GPUs of each replica, the content of their memory, the room for requests. Pure.

The figures are from `rules.models`: the weights' real size, an estimate of vLLM's own buffers. Called by fleet.cli.plan.
"""

from collections.abc import Iterator, Sequence

from fleet.stack import role_vars, rules, settings, validate
from fleet.stack.rules.models import Room

WIDTH = 48  # characters of a bar, which shows the memory of one GPU
LEGEND = "█ weights  ▒ vLLM's own (estimate)  ░ cache  · left free"


def report(stack: settings.Settings, roles: role_vars.Roles) -> str:
    """Return a paragraph for each plan. Machines with the same plan share one."""
    plans: dict[str, list[str]] = {}
    for name in stack.machines:
        plans.setdefault("\n".join(_machine(validate.machine_plan(stack, roles, name))), []).append(name)
    return "\n\n".join(f"{_names(names)}: {plan}" for plan, names in plans.items())


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


def _room(plan: rules.MachinePlan, room: Room) -> Iterator[str]:
    free = room.memory - room.usable
    yield (
        f"  a GPU:     {_gb(room.weights)} of {_gb(room.memory)} weights, {_gb(room.reserve)} vLLM's own, "
        f"{_gb(max(0, room.cache))} cache, {_gb(free)} left free"
    )
    if room.tokens > 0 and plan.context:
        at_once = room.tokens / plan.context
        yield f"  a replica: {room.tokens:,} tokens of cache, {at_once:.1f} requests of {plan.context:,} tokens at once"
    else:
        yield "  a replica: no room for a cache"


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
