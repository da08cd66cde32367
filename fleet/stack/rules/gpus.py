"""Rules about GPUs: replicas have separate names, ports and GPUs, the machine has these GPUs, and the model can be split over them."""

import math
from collections.abc import Iterator
from typing import Any

from fleet.stack.rules.rule import MachinePlan, Rule, StackFinding, at_key, number, on, whole

COUNTS = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "max-model-len", "max-num-seqs")
PARALLEL = COUNTS[:3]
UTILIZATION = "gpu-memory-utilization"


def numbers(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a flag that must be a whole number and is not. vLLM also accepts `max-model-len: auto` and -1."""
    for flag in COUNTS:
        value = plan.flags.get(flag, 1)
        if whole(value) is None and not (flag == "max-model-len" and str(value) in ("auto", "-1")):
            yield at_key(f"vllm_flags.{flag}", "not a whole number", "a whole number of at least 1", value)


def memory_share(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a share of a GPU's memory that is not above 0 and at most 1."""
    value = plan.flags.get(UTILIZATION, 0.9)
    if not (number(value) and 0 < float(value) <= 1):
        yield at_key(f"vllm_flags.{UTILIZATION}", "not a share of a GPU's memory", "more than 0, at most 1", value)


def replicas_apart(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a name or GPU that an earlier replica has, and with the host's network a port."""
    owners: dict[tuple[str, Any], str] = {}
    for place, replica in enumerate(plan.replicas):
        name = str(replica.get("name", place))
        port = replica.get("port") if plan.network == "host" else None
        claims = [("name", name), ("port", port), *(("gpu", gpu) for gpu in replica.get("gpus") or ())]
        for kind, value in claims:
            if value is not None and (kind, value) in owners:
                yield at_key(
                    f"vllm_replicas[{place}].{'gpus' if kind == 'gpu' else kind}",
                    f"replica {owners[kind, value]} has this {kind} already",
                    f"a different {kind} for each replica",
                    value,
                )
            owners.setdefault((kind, value), name)


def ports_there(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a replica without a port when the replicas use the host's network."""
    for place, replica in enumerate(plan.replicas):
        if plan.network == "host" and replica.get("port") is None:
            seen = "not set, and the replicas use the host's network"
            yield at_key(f"vllm_replicas[{place}].port", seen, "a port of 127.0.0.1, or another vllm_network")


def gpus_there(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield GPUs that the machine does not have."""
    for place, replica in enumerate(plan.replicas):
        for gpu in replica.get("gpus") or ():
            if not 0 <= gpu < plan.gpus:
                seen = f"the machine has {plan.gpus} GPUs"
                yield at_key(f"vllm_replicas[{place}].gpus", seen, f"0 to {plan.gpus - 1}", gpu)


def gpus_for_ranks(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a replica whose number of GPUs differs from the number that its flags use."""
    counts = {flag: plan.count(flag) for flag in PARALLEL}
    ranks = math.prod(counts.values())
    words = " x ".join(f"{flag} {count}" for flag, count in counts.items() if count > 1) or "tensor-parallel-size 1"
    for place, replica in enumerate(plan.replicas):
        gpus = replica.get("gpus") or ()
        if gpus and len(gpus) != ranks:
            yield at_key(
                f"vllm_replicas[{place}].gpus",
                f"{len(gpus)} GPUs for {words}",
                f"{ranks} GPUs, or another vllm_flags.tensor-parallel-size",
                list(gpus),
            )


def heads_divide(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a number of ranks by which the text model's attention heads are not divisible."""
    if plan.model and plan.model.heads % plan.ranks:
        yield at_key(
            "vllm_flags.tensor-parallel-size",
            f"the {plan.model.heads} attention heads are not divisible by it",
            "1, 2, 4 or 8",
            plan.ranks,
        )


def encoder_divides(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a split vision encoder whose heads are not divisible by the number of ranks."""
    if plan.model and plan.model.vision_heads % plan.ranks and plan.flags.get("mm-encoder-tp-mode") != "data":
        yield at_key(
            "vllm_flags.mm-encoder-tp-mode",
            f"the {plan.model.vision_heads} vision heads are not divisible by {plan.ranks} ranks",
            "data: each rank has the whole encoder",
            plan.flags.get("mm-encoder-tp-mode", ""),
        )


def experts_there(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield expert parallelism for a model without experts."""
    if plan.model and not plan.model.experts and on(plan.flags.get("enable-expert-parallel")):
        yield at_key(
            "vllm_flags.enable-expert-parallel",
            f"{plan.repository.rpartition('/')[2]} is dense: vLLM stops with a ValueError about the number of experts",
            "leave it out",
            value=True,
        )


RULES = (
    Rule(
        name="numbers",
        holds="Flags that count something are whole numbers.",
        reason="vLLM refuses anything else minutes later, on every machine at once; and no other rule can use it",
        source="vllm serve --help",
        check=numbers,
    ),
    Rule(
        name="memory-share",
        holds="The share of a GPU's memory that vLLM takes is between 0 and 1.",
        reason="vLLM refuses anything else minutes later, on every machine at once",
        source="vllm/config/cache.py, gpu_memory_utilization (0.32.0)",
        check=memory_share,
    ),
    Rule(
        name="replicas-apart",
        holds="No two replicas of a machine have the same name or GPU, and with the host's network the same port.",
        reason="only one replica can use a unit, a port or a GPU's memory",
        source="roles/vllm: one unit for each replica",
        check=replicas_apart,
    ),
    Rule(
        name="ports-there",
        holds="With the host's network each replica has a port.",
        reason="it listens on that port; with another network it listens on its own socket",
        source="roles/vllm: vllm_network",
        check=ports_there,
    ),
    Rule(
        name="gpus-there",
        holds="The machine has every GPU that a replica names.",
        reason="the container would start without it, and vLLM would report that minutes later",
        source="roles/vllm: `gpus` are indices of the host's GPUs",
        check=gpus_there,
    ),
    Rule(
        name="gpus-for-ranks",
        holds="A replica has as many GPUs as tensor, pipeline and data parallelism together use.",
        reason="with fewer GPUs vLLM does not start, with more some stay idle",
        source="vllm serve --help: --tensor-parallel-size, --pipeline-parallel-size, --data-parallel-size",
        check=gpus_for_ranks,
    ),
    Rule(
        name="heads-divide",
        holds="The number of the text model's attention heads is divisible by the number of tensor-parallel ranks.",
        reason="vLLM refuses anything else when it reads the model's configuration",
        source="vllm/config/model.py, verify_with_parallel_config (0.32.0)",
        check=heads_divide,
    ),
    Rule(
        name="encoder-divides",
        holds="The number of vision heads is divisible by the number of ranks, or the encoder runs in data mode.",
        reason="12 vision heads are not divisible by 8: vLLM fails when it builds the split encoder",
        source="vllm/model_executor/models/glm4_1v.py, Glm4vVisionAttention (0.32.0); project notes on serving, Flags by variant",
        check=encoder_divides,
    ),
    Rule(
        name="experts-there",
        holds="Expert parallelism is on only for models that have experts.",
        reason="vLLM stops at the start: Number of experts in the model must be greater than 0",
        source="vllm/config/model.py (0.32.0); project notes on serving, Flags by variant",
        check=experts_there,
    ),
)
