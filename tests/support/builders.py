"""Stacks and role variables for the tests of fleet.stack: right ones, changed ones, and the rules' findings about them."""

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

from fleet.stack import rules

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "registry.example/vllm@sha256:" + "ab" * 32
COMMIT = "12" * 20
FILE = "stacks/Pulumi.prod.yaml"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJc0gWgNv9qpDwo4fLNLD9T/Vupb4qMp3hGdhvI5GoUO"
REMOVE = object()  # instead of a value: remove the key


def bf16(**flags: Any) -> dict[str, Any]:
    """Return the recipe's BF16 values: tensor parallel 4, two replicas on eight GPUs; None removes a flag."""
    recipe = {
        "tensor-parallel-size": 4,
        "max-model-len": 65536,
        "tool-call-parser": "glm45",
        "reasoning-parser": "glm45",
        "enable-auto-tool-choice": True,
        "enable-expert-parallel": True,
        "mm-encoder-tp-mode": "data",
        "mm-processor-cache-type": "shm",
    }
    changes = {flag.replace("_", "-"): value for flag, value in flags.items()}
    return {
        "transformers_base_image": DIGEST,
        "transformers_base_vllm": "0.32.0",
        "transformers_commit": COMMIT,
        "weights_repository": "zai-org/GLM-4.6V",
        "weights_revision": COMMIT,
        "vllm_entrypoint": ["vllm", "serve"],
        "vllm_flags": {flag: value for flag, value in {**recipe, **changes}.items() if value is not None},
        "vllm_environment": {"VLLM_ROCM_USE_AITER": "1"},
        "vllm_shm_size": "32g",
        "vllm_replicas": [
            {"name": "glm-0", "port": 8000, "gpus": [0, 1, 2, 3]},
            {"name": "glm-1", "port": 8001, "gpus": [4, 5, 6, 7]},
        ],
    }


def spread(repository: str, ranks: int, **flags: Any) -> dict[str, Any]:
    """Return the recipe's values for another model, over so many GPUs, in one replica."""
    values = bf16(**{"tensor_parallel_size": ranks, **flags})
    if repository.endswith("-Flash"):
        del values["vllm_flags"]["enable-expert-parallel"]
    return values | {
        "weights_repository": repository,
        "vllm_replicas": [{"name": "glm-0", "port": 8000, "gpus": list(range(ranks))}],
    }


def rule_findings(values: dict[str, Any], gpus: int = 8) -> list[tuple[str, str, str]]:
    """Return (rule, variable, seen) of every finding of the rules."""
    plan = rules.MachinePlan(values, gpus)
    return [(rule.name, finding.key, finding.seen) for rule in rules.RULES for finding in rule.check(plan)]


def names(values: dict[str, Any], gpus: int = 8) -> list[str]:
    """Return the names of the rules with a finding."""
    return [name for name, _, _ in rule_findings(values, gpus)]


def changed(raw: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Return a copy of `raw` with one key set or removed."""
    raw = copy.deepcopy(raw)
    at = raw
    for key in path[:-1]:
        at = at[key]
    if value is REMOVE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return raw


@functools.cache
def _prod() -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "stacks" / "Pulumi.prod.yaml").read_text())["config"]
    return {key.removeprefix("glm-fleet:"): value for key, value in config.items()}


def prod(**changes: Any) -> dict[str, Any]:
    """Return the stack prod with some of its keys replaced."""
    return {**copy.deepcopy(_prod()), **changes}
