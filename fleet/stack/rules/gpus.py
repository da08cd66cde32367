"""Rules about GPUs: replicas have separate names, ports and GPUs, the machine has these GPUs, and the model can be split over them."""

import math
from collections.abc import Iterator
from typing import Any

from fleet.stack.rules.rule import MachinePlan, StackFinding, at_key, number, on, rule, whole

COUNTS = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "max-model-len", "max-num-seqs")
PARALLEL = COUNTS[:3]
UTILIZATION = "gpu-memory-utilization"


@rule(
    reason="vLLM refuses anything else minutes later, on every machine at once; and no other rule can use it",
    source="vllm serve --help",
)
def numbers(plan: MachinePlan) -> Iterator[StackFinding]:
    """Flags that count something are whole numbers."""
    for flag in COUNTS:
        value = plan.flags.get(flag, 1)
        if whole(value) is None and not (flag == "max-model-len" and str(value) in ("auto", "-1")):
            yield at_key(f"vllm_flags.{flag}", "not a whole number", "a whole number of at least 1", value)


@rule(
    reason="vLLM refuses anything else minutes later, on every machine at once",
    source="vllm/config/cache.py, gpu_memory_utilization (0.32.0)",
)
def memory_share(plan: MachinePlan) -> Iterator[StackFinding]:
    """The share of a GPU's memory that vLLM takes is between 0 and 1."""
    value = plan.flags.get(UTILIZATION, 0.9)
    if not (number(value) and 0 < float(value) <= 1):
        yield at_key(f"vllm_flags.{UTILIZATION}", "not a share of a GPU's memory", "more than 0, at most 1", value)


@rule(
    reason="only one replica can use a unit, a port or a GPU's memory",
    source="roles/vllm: one unit for each replica",
)
def replicas_apart(plan: MachinePlan) -> Iterator[StackFinding]:
    """No two replicas of a machine have the same name or GPU, and with the host's network the same port."""
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


@rule(
    reason="it listens on that port; with another network it listens on its own socket",
    source="roles/vllm: vllm_network",
)
def ports_there(plan: MachinePlan) -> Iterator[StackFinding]:
    """With the host's network each replica has a port."""
    for place, replica in enumerate(plan.replicas):
        if plan.network == "host" and replica.get("port") is None:
            seen = "not set, and the replicas use the host's network"
            yield at_key(f"vllm_replicas[{place}].port", seen, "a port of 127.0.0.1, or another vllm_network")


@rule(
    reason="the container would start without it, and vLLM would report that minutes later",
    source="roles/vllm: `gpus` are indices of the host's GPUs",
)
def gpus_there(plan: MachinePlan) -> Iterator[StackFinding]:
    """The machine has every GPU that a replica names."""
    for place, replica in enumerate(plan.replicas):
        for gpu in replica.get("gpus") or ():
            if not 0 <= gpu < plan.gpus:
                seen = f"the machine has {plan.gpus} GPUs"
                yield at_key(f"vllm_replicas[{place}].gpus", seen, f"0 to {plan.gpus - 1}", gpu)


@rule(
    reason="with fewer GPUs vLLM does not start, with more some stay idle",
    source="vllm serve --help: --tensor-parallel-size, --pipeline-parallel-size, --data-parallel-size",
)
def gpus_for_ranks(plan: MachinePlan) -> Iterator[StackFinding]:
    """A replica has as many GPUs as tensor, pipeline and data parallelism together use."""
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


@rule(
    reason="vLLM refuses anything else when it reads the model's configuration",
    source="vllm/config/model.py, verify_with_parallel_config (0.32.0)",
)
def heads_divide(plan: MachinePlan) -> Iterator[StackFinding]:
    """The number of the text model's attention heads is divisible by the number of tensor-parallel ranks."""
    if plan.model and plan.model.heads % plan.ranks:
        yield at_key(
            "vllm_flags.tensor-parallel-size",
            f"the {plan.model.heads} attention heads are not divisible by it",
            "1, 2, 4 or 8",
            plan.ranks,
        )


@rule(
    reason="12 vision heads are not divisible by 8: vLLM fails when it builds the split encoder",
    source="vllm/model_executor/models/glm4_1v.py, Glm4vVisionAttention (0.32.0); project notes on serving, Flags by variant",
)
def encoder_divides(plan: MachinePlan) -> Iterator[StackFinding]:
    """The number of vision heads is divisible by the number of ranks, or the encoder runs in data mode."""
    if plan.model and plan.model.vision_heads % plan.ranks and plan.flags.get("mm-encoder-tp-mode") != "data":
        yield at_key(
            "vllm_flags.mm-encoder-tp-mode",
            f"the {plan.model.vision_heads} vision heads are not divisible by {plan.ranks} ranks",
            "data: each rank has the whole encoder",
            plan.flags.get("mm-encoder-tp-mode", ""),
        )


@rule(
    reason="vLLM stops at the start: Number of experts in the model must be greater than 0",
    source="vllm/config/model.py (0.32.0); project notes on serving, Flags by variant",
)
def experts_there(plan: MachinePlan) -> Iterator[StackFinding]:
    """Expert parallelism is on only for models that have experts."""
    if plan.model and not plan.model.experts and on(plan.flags.get("enable-expert-parallel")):
        yield at_key(
            "vllm_flags.enable-expert-parallel",
            f"{plan.repository.rpartition('/')[2]} is dense: vLLM stops with a ValueError about the number of experts",
            "leave it out",
            value=True,
        )
