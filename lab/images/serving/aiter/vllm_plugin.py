"""Where the real vLLM calls the stand-in: at its start, and at a step that samples by top_k or top_p. Nothing is patched.

Entry points: `vllm.general_plugins` runs load() in each process, `vllm.logits_processors` names Sampling (the interface of model runner V1,
which vLLM takes where Triton is not there). VLLM_ROCM_USE_AITER=0 leaves both out, as on the real thing.
"""

import os
from typing import TYPE_CHECKING, Any

from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from .jit import core
from .ops import sampling

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams
    from vllm.v1.sample.logits_processor.interface import BatchUpdate


def used() -> bool:
    """Whether the server is told to use it."""
    return os.environ.get("VLLM_ROCM_USE_AITER", "1") != "0"


def load() -> None:
    """Load the modules that the model takes."""
    if used():
        for name in (*core.PREBUILT, *core.SHAPED):
            core.load(name)


class Sampling(LogitsProcessor):  # type: ignore[misc]
    """Called before a batch is sampled, which greedy batches are not; changes no logit."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        # By place in the batch: whether the request has a top_k, a top_p, a seed.
        self._requests: dict[int, tuple[bool, bool, bool]] = {}

    def is_argmax_invariant(self) -> bool:
        """True: so vLLM calls apply() where a request samples, and not for greedy batches."""
        return True

    def update_state(self, batch_update: "BatchUpdate | None") -> None:
        """Take in which requests came, went and moved."""
        process_dict_updates(self._requests, batch_update, self._of_request)

    def apply(self, logits: Any) -> Any:
        """Let AITER sample, as vLLM does on ROCm: by top_k and top_p only, and not where a request has a seed."""
        seeded = any(seed for _, _, seed in self._requests.values())
        if used() and not seeded:
            sampling.sample(
                top_k=any(top_k for top_k, _, _ in self._requests.values()),
                top_p=any(top_p for _, top_p, _ in self._requests.values()),
            )
        return logits

    @staticmethod
    def _of_request(
        params: "SamplingParams", prompt: list[int] | None, output: list[int]
    ) -> tuple[bool, bool, bool] | None:
        if params.temperature == 0:
            return None
        return params.top_k > 0, params.top_p < 1, params.seed is not None
