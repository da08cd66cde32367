"""Stands in for AMD's AITER in the lab's serving image: the same ways to fail on a host that was set up wrongly, and no kernel.

What it shares with the real one (ROCm/aiter, read in 2026-08): where modules and compiled code are looked for and kept (jit/core.py,
ops/sampling.py), the lock files (jit/utils/file_baton.py) and the number of jobs. Called by the real vLLM through its entry points
(vllm_plugin.py, and the entry_points.txt beside this package).

LAB_HIPCC_SECONDS is the lab's own: seconds that the stand-in of the compiler takes for anything.
"""

import logging
import sys

logger = logging.getLogger("aiter")
handler = logging.StreamHandler(sys.stderr)
handler.setFormatter(logging.Formatter("[aiter] %(message)s"))
logger.addHandler(handler)
logger.setLevel(logging.INFO)
logger.propagate = False
