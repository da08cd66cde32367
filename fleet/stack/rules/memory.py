"""Rules about memory: the model leaves room for requests on its GPUs, and shared memory is large enough."""

import re
from collections.abc import Iterator

from fleet.stack.rules.rule import MachinePlan, Rule, StackFinding, at_key

RANKS = (1, 2, 4, 8)
SIZES = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
SHM = 16 * 2**30
CACHE_GIB = 4  # vLLM's default of mm-processor-cache-gb (vllm/config/multimodal.py, 0.32.0)
FEW = 2  # full-length requests at once: with fewer, one long request makes all others wait


def weights_fit(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield weights that do not fit, or leave too little memory for one request of full length."""
    room, ranks = plan.room, plan.ranks
    if room is None or room.tokens >= plan.context:
        return
    rooms = {count: plan.room_over(count) for count in RANKS if count > ranks}
    sufficient = [count for count, larger in rooms.items() if larger and larger.tokens >= plan.context]
    remedy = f"tensor-parallel-size {sufficient[0]}" if sufficient else "a smaller model"
    if room.cache <= 0:
        weights = f"{room.weights / 1e9:.0f} GB of weights and {room.reserve / 1e9:.0f} GB for vLLM's own buffers"
        seen = f"{weights} a GPU do not fit {room.usable / 1e9:.0f} of {room.memory / 1e9:.0f} GB"
        yield at_key("vllm_flags.tensor-parallel-size", seen, remedy, ranks)
    else:
        seen = f"the cache holds {room.tokens} tokens, a request may have {plan.context}"
        wanted = f"vllm_flags.max-model-len of at most {room.tokens}, or {remedy}"
        yield at_key("vllm_flags.max-model-len", seen, wanted, plan.flags.get("max-model-len", ""))


def cache_for_two(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a cache that holds fewer than two requests of full length."""
    room = plan.room
    if room and plan.context <= room.tokens < FEW * plan.context:
        seen = f"the cache holds {room.tokens} tokens: {room.tokens / plan.context:.1f} requests of full length at once"
        wanted = f"at most {room.tokens // FEW}, or more ranks"
        yield at_key("vllm_flags.max-model-len", seen, wanted, plan.context)


def shm_large(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield shared memory that is too small for the ranks' messages or for the cache of pictures."""
    size = bytes_of(str(plan.values.get("vllm_shm_size", "")))
    cached = plan.flags.get("mm-processor-cache-type") == "shm"
    if size is None or plan.values.get("vllm_ipc_host") or not (cached or plan.ranks > 1):
        return
    smallest = SHM if plan.ranks > 1 else 0
    gib = str(plan.flags.get("mm-processor-cache-gb", CACHE_GIB))
    if cached and re.fullmatch(r"\d+(\.\d+)?", gib):
        smallest = max(smallest, int(float(gib) * 2**30))
    if size < smallest:
        ranks = [f"{plan.ranks} ranks exchange messages there"] if plan.ranks > 1 else []
        pictures = [f"{gib} GiB of pictures are cached there"] if cached else []
        yield at_key(
            "vllm_shm_size",
            " and ".join(ranks + pictures),
            f"at least {smallest / 2**30:g}g",
            plan.values["vllm_shm_size"],
        )


def bytes_of(text: str) -> int | None:
    """Return the bytes of a size as Docker reads it (64m, 32g), or None when it is malformed."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", text.strip().lower())
    return int(float(match[1]) * SIZES[match[2]]) if match else None


RULES = (
    Rule(
        name="weights-fit",
        holds="The weights leave enough memory on each GPU for one request of full length.",
        reason="otherwise vLLM stops only after minutes of fetching and minutes of loading",
        source="fleet/stack/rules/data/models.yml; vllm/v1/core/kv_cache_utils.py: To serve at least one request … (0.32.0)",
        check=weights_fit,
    ),
    Rule(
        name="cache-for-two",
        holds="The cache holds at least two requests of full length.",
        reason="with less, one long request makes all others wait",
        source="fleet/stack/rules/data/models.yml: an estimate until a start on hardware has logged the real number",
        check=cache_for_two,
        level="warning",
    ),
    Rule(
        name="shm-large",
        holds="/dev/shm is large enough for the ranks' messages and for the cache of pictures.",
        reason="a write beyond its end kills the process with SIGBUS, long after the start",
        source="project notes on serving, Container flags: 16 to 64 GiB; vllm#789; vllm/config/multimodal.py: mm_processor_cache_gb (0.32.0)",
        check=shm_large,
        level="warning",
    ),
)
