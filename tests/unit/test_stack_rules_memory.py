"""Weights fit with room for requests; shared memory is large enough. Memory is in bytes, 206.1e9 a GPU."""

from typing import Any

import pytest

from fleet.stack import rules
from fleet.stack.rules import memory, models
from tests.support.builders import bf16, names, rule_findings, spread

FULL = 131072
BF16, FP8, FLASH = "zai-org/GLM-4.6V", "zai-org/GLM-4.6V-FP8", "zai-org/GLM-4.6V-Flash"


@pytest.mark.parametrize(
    ("repository", "ranks", "fits"),
    [
        *((BF16, 1, False), (BF16, 2, True), (BF16, 4, True), (BF16, 8, True)),
        *((FP8, 1, True), (FP8, 8, True), (FLASH, 1, True), (FLASH, 8, True)),
    ],
)
def test_a_model_with_its_whole_context_fits_or_is_a_finding(repository: str, ranks: int, fits: bool) -> None:
    assert ("weights-fit" not in names(spread(repository, ranks, max_model_len=FULL))) is fits


def test_the_finding_names_a_parallelism_that_fits() -> None:
    plan = rules.MachinePlan(spread(BF16, 1), 8)
    (finding,) = memory.weights_fit.check(plan)
    assert finding.seen == "215 GB of weights and 12 GB for vLLM's own buffers a GPU do not fit 190 of 206 GB"
    assert finding.wanted == "tensor-parallel-size 2"


def test_that_parallelism_is_computed_with_the_stacks_own_flags() -> None:
    (finding,) = memory.weights_fit.check(rules.MachinePlan(spread(BF16, 1, gpu_memory_utilization=0.5), 8))
    assert finding.wanted == "tensor-parallel-size 4"  # over two, half of the memory would not hold the weights


def test_a_model_of_unknown_size_has_no_finding() -> None:
    assert names(spread("lab/GLM-4.6V", 1) | {"vllm_shm_size": "4g"}) == []


def test_a_context_that_the_cache_does_not_hold_is_reported_with_the_longest_that_fits() -> None:
    values = spread(FP8, 1, max_model_len=FULL, gpu_memory_utilization=0.7)
    ((rule, key, seen),) = rule_findings(values)
    tokens = rules.MachinePlan(values, 8).room.tokens  # type: ignore[union-attr]
    assert (rule, key) == ("weights-fit", "vllm_flags.max-model-len")
    assert seen == f"the cache holds {tokens} tokens, a request may have {FULL}"
    assert names(spread(FP8, 1, max_model_len=tokens, gpu_memory_utilization=0.7)) == ["cache-for-two"]
    assert names(spread(FP8, 1, max_model_len=tokens // 2, gpu_memory_utilization=0.7)) == []
    assert names(spread(FP8, 1, max_model_len=tokens // 2 + 1, gpu_memory_utilization=0.7)) == ["cache-for-two"]


def test_the_cache_of_a_token_follows_from_the_models_shape() -> None:
    whole = models.room(models.shapes()[BF16], 1, data_encoder=True)
    assert whole.token == 46 * 8 * 128 * 2 * 2 == 188416  # 184 KiB: facts on serving, Memory
    assert round(whole.token * FULL / 1e9, 1) == 24.7


def test_ranks_beyond_the_heads_of_keys_and_values_save_no_cache() -> None:
    flash = models.shapes()[FLASH]
    two, four = (models.room(flash, ranks, data_encoder=True) for ranks in (2, 4))
    assert two.token == four.token


def test_a_cache_in_eight_bits_holds_twice_as_many_tokens() -> None:
    wide, narrow = (rules.MachinePlan(spread(BF16, 4, kv_cache_dtype=kind), 8).room for kind in ("auto", "fp8"))
    assert wide and narrow and abs(narrow.tokens - 2 * wide.tokens) <= 1


def test_in_data_mode_every_gpu_has_the_whole_encoder() -> None:
    shape = models.shapes()[BF16]
    split, whole = (models.room(shape, 4, data_encoder=mode) for mode in (False, True))
    assert whole.weights - split.weights == shape.encoder - shape.encoder // 4


@pytest.mark.parametrize(
    ("size", "flags", "enough"),
    [
        ("64m", {}, False),
        ("15g", {}, False),
        ("16g", {}, True),
        ("16384m", {}, True),
        ("64m", {"tensor_parallel_size": 1, "mm_processor_cache_type": None}, True),
        ("3g", {"tensor_parallel_size": 1}, False),
        ("4g", {"tensor_parallel_size": 1}, True),
        ("1g", {"tensor_parallel_size": 1, "mm_processor_cache_gb": 0.25}, True),
        ("16g", {"mm_processor_cache_gb": 20}, False),
    ],
)
def test_shared_memory_holds_messages_and_pictures(size: str, flags: dict[str, Any], enough: bool) -> None:
    values = bf16(**flags) | {"vllm_shm_size": size}
    assert ("shm-large" not in names(values)) is enough


def test_the_hosts_own_shared_memory_is_not_checked() -> None:
    assert names(bf16() | {"vllm_shm_size": "64m", "vllm_ipc_host": True}) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("64m", 2**26), ("32g", 2**35), ("1.5g", 3 * 2**29), ("2gb", 2**31), ("100", 100), ("much", None)],
)
def test_sizes_are_read_as_docker_reads_them(text: str, size: int | None) -> None:
    assert memory.bytes_of(text) == size
