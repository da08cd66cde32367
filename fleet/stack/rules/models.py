"""The shapes of the models and of the GPU (data/models.yml), and how much memory a plan leaves for the cache of keys and values.

Pure arithmetic. Used by the rules about memory and heads, by `fleet plan` and by the page of the rules.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).with_name("data")
# Bytes of one number in the cache, by vllm_flags.kv-cache-dtype; anything else is as wide as the model's own BF16.
WIDTHS = {"fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_inc": 1}
UTILIZATION = 0.92  # vLLM's default of gpu-memory-utilization (vllm/config/cache.py, 0.32.0)


@dataclass(frozen=True)
class Model:
    """One model: `weights` and of these `encoder` in bytes, `context` in tokens, the rest are counts; `head_size` of the text model."""

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
    """What one GPU of a replica holds, in bytes, and what is left for the cache in tokens of the whole replica.

    `tokens` is below zero where not even the weights fit.
    """

    memory: int
    usable: int
    weights: int
    reserve: int
    token: int

    @property
    def cache(self) -> int:
        """Bytes for the cache; below zero where weights and reserve are more than what is usable."""
        return self.usable - self.weights - self.reserve

    @property
    def tokens(self) -> int:
        """How many tokens fit the cache: each rank holds its own heads of every token."""
        return self.cache // self.token


@functools.cache
def read(name: str) -> Mapping[str, Any]:
    """Return one data file as it stands; `checked` in it is the day on which somebody last compared it with its sources."""
    told: Mapping[str, Any] = yaml.safe_load((DATA / f"{name}.yml").read_text())
    return told


@functools.cache
def known() -> Mapping[str, Model]:
    """Every model that the rules know, by weights_repository."""
    return {repository: Model(**shape) for repository, shape in read("models")["models"].items()}


def room(model: Model, ranks: int, *, data_encoder: bool, utilization: float = UTILIZATION, width: int = 2) -> Room:
    """Return what a GPU holds with the model spread over `ranks` GPUs; with `data_encoder` each has the whole vision encoder.

    Where there are more ranks than heads of keys and values, vLLM keeps each head on several GPUs.
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
