"""The shapes of models and GPU (data/models.yml), and the memory that remains for the KV cache.

Pure arithmetic. Used by the rules, `capacity`, `mirrors`, `requirements`, the policy pack and the page of the rules.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).with_name("data")
# Bytes of one number in the cache, by vllm_flags.kv-cache-dtype. Any other type has the 2 bytes of the model's BF16.
WIDTHS = {"fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_inc": 1}
UTILIZATION = 0.92  # vLLM's default of gpu-memory-utilization (vllm/config/cache.py, 0.32.0)


@dataclass(frozen=True)
class Model:
    """The shape of a model: bytes of all `weights` and of the `encoder` in them, `context` in tokens, counts; `head_size` of the text model."""

    weights: int
    encoder: int
    context: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vision_heads: int
    experts: int


@dataclass(frozen=True)
class Room:
    """The memory of one GPU of a replica, in bytes: all, usable, of weights, of vLLM's own buffers (`reserve`), of one `token` in the cache.

    `cache` and `tokens` are below zero when the weights do not fit.
    """

    memory: int
    usable: int
    weights: int
    reserve: int
    token: int

    @property
    def cache(self) -> int:
        """Bytes for the cache."""
        return self.usable - self.weights - self.reserve

    @property
    def tokens(self) -> int:
        """Tokens that fit the whole replica's cache: each rank holds its own heads of every token."""
        return self.cache // self.token


@functools.cache
def read(name: str) -> Mapping[str, Any]:
    """Return the content of a data file. Its `checked` is the day of the last comparison with its sources."""
    content: Mapping[str, Any] = yaml.safe_load((DATA / f"{name}.yml").read_text())
    return content


@functools.cache
def shapes() -> Mapping[str, Model]:
    """Return the shape of every known model, by weights_repository."""
    return {repository: Model(**shape) for repository, shape in read("models")["models"].items()}


def room(model: Model, ranks: int, *, data_encoder: bool, utilization: float = UTILIZATION, width: int = 2) -> Room:
    """Return the memory of a GPU with the model split over `ranks` GPUs. With `data_encoder` each has the whole vision encoder.

    With more ranks than KV heads, vLLM keeps each head on several GPUs.
    """
    memory = int(read("models")["gpu"]["memory"])
    encoder = model.encoder if data_encoder else model.encoder // ranks
    heads = max(1, model.kv_heads // ranks)
    return Room(
        memory=memory,
        usable=int(memory * utilization),
        weights=(model.weights - model.encoder) // ranks + encoder,
        reserve=int(read("models")["reserve"]),
        token=model.layers * heads * model.head_size * 2 * width,
    )
