"""What can be known from the plan alone: pinned things are pinned, replicas do not collide, the model fits the GPUs.

Pure functions on one machine's role variables; no I/O. Called by `fleet.plan.program`. A rule names its source where
it is a lesson about model or hardware; add such a lesson here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

DIGEST = re.compile(r"^[^@\s]+@sha256:[0-9a-f]{64}$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")
# GB of weights by model, and of HBM by GPU (MI300X). Source: the model cards' file sizes and vLLM's recipe.
WEIGHTS_GB = {"zai-org/GLM-4.6V": 215, "zai-org/GLM-4.6V-FP8": 116, "zai-org/GLM-4.6V-Flash": 21}
GPU_GB = 192
VISION_HEADS = 12
MAX_MODEL_LEN = 131072

Variables = Mapping[str, Any]
Mistakes = Iterator[tuple[str, dict[str, Any]]]


def judge(values: Variables, gpus: int) -> Mistakes:
    """Yield (variable, {value, seen, allowed}) for what is wrong with the variables of one machine that has `gpus` GPUs."""
    for rule in (pinned, replicas, model):
        yield from rule(values, gpus)


def pinned(values: Variables, _gpus: int) -> Mistakes:
    """Images by digest, sources and weights by commit: a tag or a branch moves under a running fleet."""
    base = values.get("transformers_base_image")
    if base and not DIGEST.match(str(base)):
        wanted = "REPOSITORY@sha256:<64 hex>, e.g. from `docker buildx imagetools inspect`"
        yield "transformers_base_image", {"value": base, "seen": "an image without digest", "allowed": wanted}
    for key in ("transformers_commit", "weights_revision"):
        value = values.get(key)
        if value and not COMMIT.match(str(value)):
            yield key, {"value": value, "seen": "not a full commit", "allowed": "40 hex digits"}


def missing(values: Variables) -> Mistakes:
    """What no role can guess: which image, which source, which weights."""
    for key, allowed in {
        "transformers_base_image": "REPOSITORY@sha256:<64 hex>",
        "transformers_commit": "40 hex digits",
        "weights_revision": "40 hex digits",
    }.items():
        if not values.get(key):
            yield key, {"seen": "this variable is missing", "allowed": allowed}


def replicas(values: Variables, gpus: int) -> Mistakes:
    """No two replicas of one machine share a name, a port or a GPU, and each GPU exists."""
    taken: dict[tuple[str, Any], str] = {}
    for place, replica in enumerate(values.get("vllm_replicas") or ()):
        name = replica.get("name", str(place))
        claims = [("name", name), ("port", replica.get("port")), *(("gpu", gpu) for gpu in replica.get("gpus") or ())]
        for claim in claims:
            kind, what = claim
            key = f"vllm_replicas[{place}].{'gpus' if kind == 'gpu' else kind}"
            if what is None:
                continue
            if claim in taken:
                seen = f"replica {taken[claim]} has this {kind} already"
                yield key, {"value": what, "seen": seen, "allowed": f"one {kind} for one replica"}
            elif kind == "gpu" and not 0 <= what < gpus:
                yield key, {"value": what, "seen": f"the machine has {gpus} GPUs", "allowed": f"0 to {gpus - 1}"}
            taken.setdefault(claim, name)


def model(values: Variables, _gpus: int) -> Mistakes:
    """What vLLM would refuse, or run out of memory on, minutes after the start."""
    flags = values.get("vllm_flags") or {}
    ranks = flags.get("tensor-parallel-size", 1)
    repository = values.get("weights_repository", "")
    for place, replica in enumerate(values.get("vllm_replicas") or ()):
        own = len(replica.get("gpus") or ())
        if own and own != ranks:
            yield (
                f"vllm_replicas[{place}].gpus",
                {
                    "value": replica["gpus"],
                    "seen": f"{own} GPUs for tensor-parallel-size {ranks}",
                    "allowed": f"{ranks} GPUs, or another vllm_flags.tensor-parallel-size",
                },
            )
    if repository in WEIGHTS_GB and WEIGHTS_GB[repository] > 0.9 * GPU_GB * ranks:
        yield (
            "vllm_flags.tensor-parallel-size",
            {
                "value": ranks,
                "seen": f"{WEIGHTS_GB[repository]} GB of weights do not fit {ranks} GPU of {GPU_GB} GB",
                "allowed": "at least "
                + str(next(n for n in (1, 2, 4, 8) if WEIGHTS_GB[repository] <= 0.9 * GPU_GB * n)),
            },
        )
    if VISION_HEADS % ranks and flags.get("mm-encoder-tp-mode") != "data":
        yield (
            "vllm_flags.mm-encoder-tp-mode",
            {
                "value": flags.get("mm-encoder-tp-mode", ""),
                "seen": f"the {VISION_HEADS} vision heads do not divide by {ranks}",
                "allowed": "data",
            },
        )
    if repository.endswith("-Flash") and flags.get("enable-expert-parallel"):
        yield (
            "vllm_flags.enable-expert-parallel",
            {
                "value": True,
                "seen": "GLM-4.6V-Flash is dense: vLLM stops with a ValueError about the number of experts",
                "allowed": "leave it out",
            },
        )
    if flags.get("trust-remote-code"):
        yield (
            "vllm_flags.trust-remote-code",
            {
                "value": True,
                "seen": "runs code from the weights' repository; GLM-4.6V does not need it (CVE-2026-114053)",
                "allowed": "leave it out",
            },
        )
    if flags.get("max-model-len", 0) > MAX_MODEL_LEN:
        yield (
            "vllm_flags.max-model-len",
            {
                "value": flags["max-model-len"],
                "seen": "longer than the model's context",
                "allowed": f"at most {MAX_MODEL_LEN}",
            },
        )
