"""The model fits its GPUs with room for requests, and shared memory is large enough for what lies in it."""

import re
from collections.abc import Iterator

from fleet.stack.rules.rule import Planned, Rule, StackFinding, at_key

RANKS = (1, 2, 4, 8)
SIZES = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
SHM = 16 * 2**30
CACHE_GIB = 4  # vLLM's default of mm-processor-cache-gb (vllm/config/multimodal.py, 0.32.0)
FEW = 2  # full-length requests at once, below which one long request makes all others wait


def fits(planned: Planned) -> Iterator[StackFinding]:
    """Yield a model whose weights leave no memory, or not enough for one request of full length."""
    room, ranks = planned.room, planned.ranks
    if room is None or room.tokens >= planned.context:
        return
    rooms = {more: planned.room_over(more) for more in RANKS if more > ranks}
    enough = [more for more, there in rooms.items() if there and there.tokens >= planned.context]
    more = f"tensor-parallel-size {enough[0]}" if enough else "a smaller model"
    if room.cache <= 0:
        weights = f"{room.weights / 1e9:.0f} GB of weights and {room.reserve / 1e9:.0f} GB for vLLM's own buffers"
        seen = f"{weights} a GPU do not fit {room.usable / 1e9:.0f} of {room.memory / 1e9:.0f} GB"
        yield at_key("vllm_flags.tensor-parallel-size", seen, more, ranks)
    else:
        seen = f"the cache holds {room.tokens} tokens, a request may have {planned.context}"
        wanted = f"vllm_flags.max-model-len of at most {room.tokens}, or {more}"
        yield at_key("vllm_flags.max-model-len", seen, wanted, planned.flags.get("max-model-len", ""))


def many(planned: Planned) -> Iterator[StackFinding]:
    """Yield a cache in which one long request makes all others wait."""
    room = planned.room
    if room and planned.context <= room.tokens < FEW * planned.context:
        seen = (
            f"the cache holds {room.tokens} tokens: {room.tokens / planned.context:.1f} requests of full length at once"
        )
        wanted = f"at most {room.tokens // FEW}, or more ranks"
        yield at_key("vllm_flags.max-model-len", seen, wanted, planned.context)


def shared(planned: Planned) -> Iterator[StackFinding]:
    """Yield shared memory that is too small for the ranks' messages, or for the cache of pictures."""
    size = bytes_of(str(planned.values.get("vllm_shm_size", "")))
    cached = planned.flags.get("mm-processor-cache-type") == "shm"
    if size is None or planned.values.get("vllm_ipc_host") or not (cached or planned.ranks > 1):
        return
    least = SHM if planned.ranks > 1 else 0
    gib = str(planned.flags.get("mm-processor-cache-gb", CACHE_GIB))
    if cached and re.fullmatch(r"\d+(\.\d+)?", gib):
        least = max(least, int(float(gib) * 2**30))
    if size < least:
        ranks = [f"{planned.ranks} ranks exchange messages there"] if planned.ranks > 1 else []
        pictures = [f"{gib} GiB of pictures are cached there"] if cached else []
        yield at_key(
            "vllm_shm_size",
            " and ".join(ranks + pictures),
            f"at least {least / 2**30:g}g",
            planned.values["vllm_shm_size"],
        )


def bytes_of(text: str) -> int | None:
    """Return a size as Docker reads it (64m, 32g) in bytes; None where it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", text.strip().lower())
    return int(float(found[1]) * SIZES[found[2]]) if found else None


RULES = (
    Rule(
        name="weights-fit",
        holds="The weights leave enough memory on each GPU for one request of full length.",
        reason="the weights are fetched for minutes and loaded for minutes before vLLM says so, and stops",
        source="fleet/stack/rules/data/models.yml; vllm/v1/core/kv_cache_utils.py: To serve at least one request … (0.32.0)",
        check=fits,
    ),
    Rule(
        name="cache-for-two",
        holds="The cache holds at least two requests of full length.",
        reason="with less, one long request makes all others wait",
        source="fleet/stack/rules/data/models.yml: an estimate until a start on hardware has logged its true number",
        check=many,
        level="warning",
    ),
    Rule(
        name="shm-large",
        holds="/dev/shm is large enough for the ranks' messages and for the cache of pictures.",
        reason="a write beyond its end kills the process (SIGBUS), long after the start",
        source="project notes on serving, Container flags: 16 to 64 GiB; vllm#789; vllm/config/multimodal.py: mm_processor_cache_gb (0.32.0)",
        check=shared,
        level="warning",
    ),
)
