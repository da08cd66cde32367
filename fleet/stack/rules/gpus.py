"""Replicas share nothing that only one can have, fit the machine's GPUs, and split the model where it can be split."""

from collections.abc import Iterator
from typing import Any

from fleet.stack.rules.rule import Planned, Rule, StackFinding, at_key, number, on, whole

COUNTS = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "max-model-len", "max-num-seqs")
PARALLEL = COUNTS[:3]
UTILIZATION = "gpu-memory-utilization"


def numbers(planned: Planned) -> Iterator[StackFinding]:
    """Yield a flag that must be a whole number and is none; `max-model-len: auto` and -1 are vLLM's own words."""
    for flag in COUNTS:
        value = planned.flags.get(flag, 1)
        if whole(value) is None and not (flag == "max-model-len" and str(value) in ("auto", "-1")):
            yield at_key(f"vllm_flags.{flag}", "not a whole number", "a whole number of at least 1", value)


def utilization(planned: Planned) -> Iterator[StackFinding]:
    """Yield a share of a GPU's memory that is none, or more than there is."""
    value = planned.flags.get(UTILIZATION, 0.9)
    if not (number(value) and 0 < float(value) <= 1):
        yield at_key(f"vllm_flags.{UTILIZATION}", "not a share of a GPU's memory", "more than 0, at most 1", value)


def apart(planned: Planned) -> Iterator[StackFinding]:
    """Yield a name or a GPU that an earlier replica has, and with the host's network a port."""
    owners: dict[tuple[str, Any], str] = {}
    for place, replica in enumerate(planned.replicas):
        name = str(replica.get("name", place))
        port = replica.get("port") if planned.network == "host" else None
        claims = [("name", name), ("port", port), *(("gpu", gpu) for gpu in replica.get("gpus") or ())]
        for kind, what in claims:
            if what is not None and (kind, what) in owners:
                yield at_key(
                    f"vllm_replicas[{place}].{'gpus' if kind == 'gpu' else kind}",
                    f"replica {owners[kind, what]} has this {kind} already",
                    f"one {kind} for one replica",
                    what,
                )
            owners.setdefault((kind, what), name)


def ports(planned: Planned) -> Iterator[StackFinding]:
    """Yield a replica without a port where it listens on one."""
    for place, replica in enumerate(planned.replicas):
        if planned.network == "host" and replica.get("port") is None:
            seen = "not set, and the replicas use the host's network"
            yield at_key(f"vllm_replicas[{place}].port", seen, "a port of 127.0.0.1, or another vllm_network")


def there(planned: Planned) -> Iterator[StackFinding]:
    """Yield GPUs that the machine does not have."""
    for place, replica in enumerate(planned.replicas):
        for gpu in replica.get("gpus") or ():
            if not 0 <= gpu < planned.gpus:
                seen = f"the machine has {planned.gpus} GPUs"
                yield at_key(f"vllm_replicas[{place}].gpus", seen, f"0 to {planned.gpus - 1}", gpu)


def as_many(planned: Planned) -> Iterator[StackFinding]:
    """Yield a replica that has other GPUs than its flags spread it over."""
    told = {flag: planned.count(flag) for flag in PARALLEL}
    wanted = told["tensor-parallel-size"] * told["pipeline-parallel-size"] * told["data-parallel-size"]
    words = " x ".join(f"{flag} {count}" for flag, count in told.items() if count > 1) or "tensor-parallel-size 1"
    for place, replica in enumerate(planned.replicas):
        own = replica.get("gpus") or ()
        if own and len(own) != wanted:
            yield at_key(
                f"vllm_replicas[{place}].gpus",
                f"{len(own)} GPUs for {words}",
                f"{wanted} GPUs, or another vllm_flags.tensor-parallel-size",
                list(own),
            )


def heads(planned: Planned) -> Iterator[StackFinding]:
    """Yield a number of ranks that the text model's attention heads do not divide by."""
    if planned.model and planned.model.heads % planned.ranks:
        yield at_key(
            "vllm_flags.tensor-parallel-size",
            f"the {planned.model.heads} attention heads do not divide by it",
            "1, 2, 4 or 8",
            planned.ranks,
        )


def encoder(planned: Planned) -> Iterator[StackFinding]:
    """Yield a vision encoder that is to be split over ranks that its heads do not divide by."""
    if (
        planned.model
        and planned.model.vision_heads % planned.ranks
        and planned.flags.get("mm-encoder-tp-mode") != "data"
    ):
        yield at_key(
            "vllm_flags.mm-encoder-tp-mode",
            f"the {planned.model.vision_heads} vision heads do not divide by {planned.ranks} ranks",
            "data: each rank has the whole encoder",
            planned.flags.get("mm-encoder-tp-mode", ""),
        )


def experts(planned: Planned) -> Iterator[StackFinding]:
    """Yield expert parallelism for a model without experts."""
    if planned.model and not planned.model.experts and on(planned.flags.get("enable-expert-parallel")):
        yield at_key(
            "vllm_flags.enable-expert-parallel",
            f"{planned.repository.rpartition('/')[2]} is dense: vLLM stops with a ValueError about the number of experts",
            "leave it out",
            value=True,
        )


RULES = (
    Rule(
        name="numbers",
        holds="Flags that count something are whole numbers.",
        reason="vLLM refuses them minutes later, on every machine at once; and no other rule can use them",
        source="vllm serve --help",
        check=numbers,
    ),
    Rule(
        name="memory-share",
        holds="The share of a GPU's memory that vLLM takes is between 0 and 1.",
        reason="vLLM refuses another one minutes later, on every machine at once",
        source="vllm/config/cache.py, gpu_memory_utilization (0.32.0)",
        check=utilization,
    ),
    Rule(
        name="replicas-apart",
        holds="No two replicas of a machine have the same name or GPU, and with the host's network the same port.",
        reason="a unit, a listening port and a GPU's memory have one owner",
        source="roles/vllm: one unit a replica",
        check=apart,
    ),
    Rule(
        name="ports-there",
        holds="With the host's network each replica has a port.",
        reason="it listens there; without that network it listens on a socket of its own",
        source="roles/vllm: vllm_network",
        check=ports,
    ),
    Rule(
        name="gpus-there",
        holds="Every GPU that a replica names is one of the machine's.",
        reason="the container would start without it, and vLLM would say so minutes later",
        source="roles/vllm: `gpus` are indices of the host's GPUs",
        check=there,
    ),
    Rule(
        name="gpus-for-ranks",
        holds="A replica has as many GPUs as tensor, pipeline and data parallelism together spread it over.",
        reason="with fewer vLLM does not start, with more some stay idle",
        source="vllm serve --help: --tensor-parallel-size, --pipeline-parallel-size, --data-parallel-size",
        check=as_many,
    ),
    Rule(
        name="heads-divide",
        holds="The attention heads of the text model divide by the tensor-parallel ranks.",
        reason="vLLM refuses anything else when it reads the model's configuration",
        source="vllm/config/model.py, verify_with_parallel_config (0.32.0)",
        check=heads,
    ),
    Rule(
        name="encoder-divides",
        holds="The vision heads divide by the ranks, or the encoder runs in data mode.",
        reason="12 vision heads do not divide by 8: the split encoder fails when it is built",
        source="vllm/model_executor/models/glm4_1v.py, Glm4vVisionAttention (0.32.0); project notes on serving, Flags by variant",
        check=encoder,
    ),
    Rule(
        name="experts-there",
        holds="Expert parallelism only for models that have experts.",
        reason="vLLM stops at the start: Number of experts in the model must be greater than 0",
        source="vllm/config/model.py (0.32.0); project notes on serving, Flags by variant",
        check=experts,
    ),
)
