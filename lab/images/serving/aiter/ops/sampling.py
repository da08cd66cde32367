"""Sampling by top_k and top_p: each kind compiled at its first call, below AITER_ROOT_DIR or HOME, and loaded from there.

Called by vllm_plugin.py for a batch of which at least one request samples so.
"""

import ctypes
import functools
import hashlib
import os
from pathlib import Path

from ..jit import core
from ..jit.utils import file_baton

SECONDS = 1.0  # of compiling one


def build_dir() -> Path:
    """Where the code is compiled to: of no use on a mount without exec."""
    return Path(os.environ.get("AITER_ROOT_DIR") or f"{os.environ.get('HOME')}/.aiter") / "build"


def sample(top_k: bool, top_p: bool) -> None:
    """Make ready what samples by these. Raises OSError where what was compiled cannot be mapped."""
    if top_k and top_p:
        library("top_k_top_p_sampling_from_probs")
    elif top_p:
        library("top_p_sampling_from_probs")
    elif top_k:
        library("top_k_renorm_probs")


@functools.cache
def library(function: str) -> ctypes.CDLL:
    """Load the library of a function, compiled before where it is not there."""
    folder = build_dir() / f"{function}_{hashlib.sha256(function.encode()).hexdigest()[:32]}"
    target = folder / "lib.so"
    if not target.exists():
        (folder / "include").mkdir(parents=True, exist_ok=True)
        file_baton.alone(folder / "lock", lambda: core.compiled(target, SECONDS))
    return ctypes.CDLL(str(target))
