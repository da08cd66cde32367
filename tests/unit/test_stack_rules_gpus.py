"""Replicas share nothing, fit the machine, and split the model where it can be split."""

from typing import Any

import pytest

from tests.support.builders import bf16, names, rule_findings, spread


def test_the_recipe_passes() -> None:
    assert rule_findings(bf16()) == []


def test_an_empty_stack_has_no_finding() -> None:
    assert rule_findings({}) == []


@pytest.mark.parametrize("value", ["four", 0, 1.5, None])
@pytest.mark.parametrize("flag", ["tensor-parallel-size", "max-num-seqs"])
def test_a_count_is_a_whole_number(flag: str, value: Any) -> None:
    values = bf16()
    values["vllm_flags"][flag] = value
    assert ("numbers", f"vllm_flags.{flag}", "not a whole number") in rule_findings(values)


@pytest.mark.parametrize("value", ["auto", -1, "65536"])
def test_the_context_may_be_left_to_vllm(value: Any) -> None:
    assert names(bf16(max_model_len=value)) == []


@pytest.mark.parametrize(
    ("change", "rule", "key", "seen"),
    [
        ({"name": "glm-0"}, "replicas-apart", "name", "replica glm-0 has this name already"),
        ({"gpus": [3, 5, 6, 7]}, "replicas-apart", "gpus", "replica glm-0 has this gpu already"),
        ({"gpus": [4, 5, 6, 8]}, "gpus-there", "gpus", "the machine has 8 GPUs"),
        ({"gpus": [4, 5]}, "gpus-for-ranks", "gpus", "2 GPUs for tensor-parallel-size 4"),
    ],
)
def test_replicas_do_not_collide_and_have_their_gpus(change: dict[str, Any], rule: str, key: str, seen: str) -> None:
    values = bf16()
    values["vllm_replicas"][1] |= change
    assert rule_findings(values) == [(rule, f"vllm_replicas[1].{key}", seen)]


def test_replicas_have_a_port_each_with_the_hosts_network_alone() -> None:
    values = bf16()
    values["vllm_replicas"][1]["port"] = 8000
    shared = [("replicas-apart", "vllm_replicas[1].port", "replica glm-0 has this port already")]
    assert rule_findings(values) == []
    assert (
        rule_findings(values | {"vllm_network": "host"})
        == rule_findings(values | {"vllm_host_network": True})
        == shared
    )
    del values["vllm_replicas"][1]["port"]
    missing = [("ports-there", "vllm_replicas[1].port", "not set, and the replicas use the host's network")]
    assert rule_findings(values) == []
    assert rule_findings(values | {"vllm_network": "host"}) == missing


def test_a_replica_may_have_the_last_gpu_and_no_further_one() -> None:
    assert names(bf16(), gpus=8) == []
    assert names(bf16(), gpus=7) == ["gpus-there"]


def test_all_kinds_of_parallelism_take_gpus() -> None:
    values = spread("zai-org/GLM-4.6V", 8, tensor_parallel_size=4, pipeline_parallel_size=2)
    assert names(values) == []
    values["vllm_replicas"][0]["gpus"].pop()
    ((_, _, seen),) = rule_findings(values)
    assert seen == "7 GPUs for tensor-parallel-size 4 x pipeline-parallel-size 2"


@pytest.mark.parametrize(("ranks", "divides"), [(1, True), (2, True), (3, True), (5, False), (7, False)])
def test_attention_heads_divide_by_the_ranks(ranks: int, divides: bool) -> None:
    assert ("heads-divide" not in names(spread("zai-org/GLM-4.6V-FP8", ranks))) is divides


@pytest.mark.parametrize(
    ("ranks", "mode", "divides"), [(4, None, True), (8, None, False), (8, "weights", False), (8, "data", True)]
)
def test_eight_ranks_need_the_encoder_in_data_mode(ranks: int, mode: str | None, divides: bool) -> None:
    values = spread("zai-org/GLM-4.6V", ranks, mm_encoder_tp_mode=mode)
    assert names(values) == ([] if divides else ["encoder-divides"])


def test_flash_has_no_experts_to_spread() -> None:
    values = spread("zai-org/GLM-4.6V-Flash", 1)
    assert names(values) == []
    values["vllm_flags"]["enable-expert-parallel"] = True
    assert names(values) == ["experts-there"]
    values["vllm_flags"]["enable-expert-parallel"] = False
    assert names(values) == []


def test_flags_of_the_entrypoint_count_too() -> None:
    values = bf16(tensor_parallel_size=None)
    values["vllm_entrypoint"] = ["vllm", "serve", "--tensor_parallel_size=4"]
    assert names(values) == []
    values["vllm_entrypoint"] = ["vllm", "serve", "--tensor-parallel-size", "2"]
    assert set(names(values)) == {"gpus-for-ranks"}


@pytest.mark.parametrize("value", [2, 0, "-0.5", "most", 1.01])
def test_a_share_of_memory_is_between_none_and_all(value: object) -> None:
    assert ("memory-share", "vllm_flags.gpu-memory-utilization") in [
        (rule, key) for rule, key, _ in rule_findings(bf16(gpu_memory_utilization=value))
    ]
    assert "memory-share" not in names(bf16(gpu_memory_utilization=0.92))


@pytest.mark.parametrize("name", ["vllm_flags", "vllm_environment", "vllm_replicas", "vllm_entrypoint"])
@pytest.mark.parametrize("value", ["{{ x }}", 5, None])
def test_a_variable_of_another_form_raises_no_error(name: str, value: object) -> None:
    assert isinstance(names(bf16() | {name: value}), list)
