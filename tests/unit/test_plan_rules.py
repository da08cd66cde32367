"""What the plan alone tells: each rule lets the recipe's values pass and stops the one value that would fail later."""

from typing import Any

import pytest

from fleet.plan import rules

DIGEST = "registry.example/vllm@sha256:" + "ab" * 32
COMMIT = "12" * 20


def bf16(**flags: Any) -> dict[str, Any]:
    """Return the recipe's BF16 values: tensor parallel 4, two replicas on eight GPUs."""
    return {
        "transformers_base_image": DIGEST,
        "transformers_commit": COMMIT,
        "weights_repository": "zai-org/GLM-4.6V",
        "weights_revision": COMMIT,
        "vllm_flags": {"tensor-parallel-size": 4, "enable-expert-parallel": True, "max-model-len": 65536, **flags},
        "vllm_replicas": [
            {"name": "glm-0", "port": 8000, "gpus": [0, 1, 2, 3]},
            {"name": "glm-1", "port": 8001, "gpus": [4, 5, 6, 7]},
        ],
    }


def one(values: dict[str, Any], gpus: int = 8) -> tuple[str, str]:
    """Return variable and `seen` of the only mistake in `values`."""
    ((key, mistake),) = rules.judge(values, gpus)
    return key, mistake["seen"]


def test_the_recipe_passes() -> None:
    assert not list(rules.judge(bf16(), 8))


def test_nothing_said_is_nothing_wrong() -> None:
    assert not list(rules.judge({}, 8))


@pytest.mark.parametrize("image", ["registry.example/vllm:v0.31.0", "registry.example/vllm", "vllm@sha256:abc"])
def test_an_image_is_named_by_digest(image: str) -> None:
    assert one({**bf16(), "transformers_base_image": image}) == ("transformers_base_image", "an image without digest")


@pytest.mark.parametrize("name", ["transformers_commit", "weights_revision"])
def test_a_branch_or_a_short_commit_is_no_pin(name: str) -> None:
    assert one({**bf16(), name: "main"}) == (name, "not a full commit")
    assert one({**bf16(), name: COMMIT[:12]}) == (name, "not a full commit")


def test_what_no_role_can_guess_is_missed() -> None:
    assert not list(rules.missing(bf16()))
    assert [key for key, _ in rules.missing({**bf16(), "weights_revision": ""})] == ["weights_revision"]


@pytest.mark.parametrize(
    ("change", "key", "seen"),
    [
        ({"name": "glm-0"}, "vllm_replicas[1].name", "replica glm-0 has this name already"),
        ({"port": 8000}, "vllm_replicas[1].port", "replica glm-0 has this port already"),
        ({"gpus": [3, 5, 6, 7]}, "vllm_replicas[1].gpus", "replica glm-0 has this gpu already"),
        ({"gpus": [4, 5, 6, 8]}, "vllm_replicas[1].gpus", "the machine has 8 GPUs"),
        ({"gpus": [4, 5]}, "vllm_replicas[1].gpus", "2 GPUs for tensor-parallel-size 4"),
    ],
)
def test_replicas_do_not_collide(change: dict[str, Any], key: str, seen: str) -> None:
    values = bf16()
    values["vllm_replicas"][1] |= change
    assert one(values) == (key, seen)


@pytest.mark.parametrize(
    ("repository", "ranks", "fits"),
    [
        ("zai-org/GLM-4.6V", 1, False),
        ("zai-org/GLM-4.6V", 2, True),
        ("zai-org/GLM-4.6V-FP8", 1, True),
        ("zai-org/GLM-4.6V-Flash", 1, True),
        ("lab/GLM-4.6V", 1, True),
    ],
)
def test_weights_fit_the_gpus_or_are_told_before_they_are_fetched(repository: str, ranks: int, fits: bool) -> None:
    values = {"weights_repository": repository, "vllm_flags": {"tensor-parallel-size": ranks}}
    assert (not list(rules.judge(values, 8))) is fits


def test_eight_ranks_need_the_encoder_in_data_mode() -> None:
    values = {"vllm_flags": {"tensor-parallel-size": 8}}
    assert one(values)[0] == "vllm_flags.mm-encoder-tp-mode"
    values["vllm_flags"]["mm-encoder-tp-mode"] = "data"
    assert not list(rules.judge(values, 8))


def test_flash_has_no_experts_to_spread() -> None:
    values = {"weights_repository": "zai-org/GLM-4.6V-Flash", "vllm_flags": {"enable-expert-parallel": True}}
    assert one(values)[0] == "vllm_flags.enable-expert-parallel"


def test_code_of_the_weights_repository_is_never_run() -> None:
    assert one(bf16(**{"trust-remote-code": True}))[0] == "vllm_flags.trust-remote-code"


def test_no_context_is_longer_than_the_models() -> None:
    assert not list(rules.judge(bf16(**{"max-model-len": 131072}), 8))
    assert one(bf16(**{"max-model-len": 131073}))[0] == "vllm_flags.max-model-len"
