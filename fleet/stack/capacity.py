"""What `fleet plan` prints: which replica has which GPUs, what lies in their memory, what is left for requests. Pure.

Figures are those of `rules.models`: weights as the files have them, vLLM's own buffers estimated. Called by `fleet.cli.plan`.
"""

from collections.abc import Iterator, Sequence

from fleet.stack import role_vars, rules, settings, validate
from fleet.stack.rules.models import Room

WIDTH = 48  # characters of a bar, which is the memory of one GPU
LEGEND = "█ weights  ▒ vLLM's own (estimate)  ░ cache  · left free"


def report(stack: settings.Settings, roles: role_vars.Roles) -> str:
    """Return a paragraph for each kind of machine: those with the same plan are told once."""
    plans: dict[str, list[str]] = {}
    for name in stack.machines:
        plans.setdefault("\n".join(_machine(validate.plan(stack, roles, name))), []).append(name)
    return "\n\n".join(f"{_names(names)}: {plan}" for plan, names in plans.items())


def _machine(planned: rules.Planned) -> Iterator[str]:
    """Yield the lines of one machine's plan."""
    model = planned.values.get("vllm_served_model_name") or planned.repository
    gpus, replicas = _count(planned.gpus, "GPU"), _count(len(planned.replicas), "replica")
    yield f"{gpus}, {replicas} of {model} ({planned.repository})"
    owners = {gpu: replica for replica in planned.replicas for gpu in replica.get("gpus") or ()}
    room = planned.room
    for gpu in range(planned.gpus):
        replica = owners.get(gpu)
        who = "free" if replica is None else replica["name"]
        if replica and planned.network == "host":
            who += f" :{replica.get('port')}"
        yield f"  GPU {gpu:<2} {who:<14} {bar(room) if replica and room else ''}".rstrip()
    if room is None:
        yield f"  {planned.repository or 'a model without a name'} is none of the models that are known here: no figures"
    elif owners:
        yield f"  {LEGEND}"
        yield from _room(planned, room)


def _room(planned: rules.Planned, room: Room) -> Iterator[str]:
    free = room.memory - room.usable
    yield (
        f"  a GPU:     {_gb(room.weights)} of {_gb(room.memory)} weights, {_gb(room.reserve)} vLLM's own, "
        f"{_gb(max(0, room.cache))} cache, {_gb(free)} left free"
    )
    if room.tokens > 0 and planned.context:
        at_once = room.tokens / planned.context
        yield f"  a replica: {room.tokens:,} tokens of cache, {at_once:.1f} requests of {planned.context:,} tokens at once"
    else:
        yield "  a replica: no room for a cache"


def bar(room: Room) -> str:
    """Return the memory of one GPU as a bar."""
    parts = {"█": room.weights, "▒": room.reserve, "░": max(0, room.cache)}
    drawn = "".join(sign * round(WIDTH * size / room.memory) for sign, size in parts.items())[:WIDTH]
    return drawn.ljust(WIDTH, "·")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.0f} GB"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"
