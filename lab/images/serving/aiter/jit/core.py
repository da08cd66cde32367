"""Finds or builds a module, and loads it: in AITER_JIT_DIR alone where that is set, else beside this file.

Needs SOURCE, a library of the image that stands for whatever is compiled. Called by vllm_plugin.py and ops/sampling.py.
"""

import ctypes
import logging
import os
import shutil
import time
from pathlib import Path

from .utils import file_baton

logger = logging.getLogger("aiter")
HERE = Path(__file__).parent
SOURCE = HERE / "compiled.so"  # put here, as the prebuilt modules are, by the image's setup.sh
# Those that come with the package, as about 80 do with the real one, and the seconds of building one; a real one takes minutes.
PREBUILT = {"module_aiter_core": 20.0, "module_gemm_a8w8": 20.0, "module_moe_asm": 20.0, "module_rmsnorm": 20.0}
# And what no package brings, since it is made for a model's shapes.
SHAPED = {"module_moe_ck2stages": 1.0}
GIGABYTES_PER_JOB = 0.5


def jobs() -> int:
    """How many compilers may run at once: 0.8 of the cores, fewer where memory is short, or MAX_JOBS where that is fewer still."""
    cores = int(max(1, (os.cpu_count() or 1) * 0.8))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    most = max(1, min(cores, int(free / GIGABYTES_PER_JOB)))
    asked = os.environ.get("MAX_JOBS", "")
    return min(most, int(asked)) if asked.isdigit() and int(asked) > 0 else most


def compiled(target: Path, seconds: float) -> None:
    """Make a library as the compiler would: after some time, and all at once."""
    seconds = float(os.environ.get("LAB_HIPCC_SECONDS") or seconds)
    logger.info("start build %s with %d jobs (MAX_JOBS=%s)", target, jobs(), os.environ.get("MAX_JOBS", ""))
    begun = time.monotonic()
    time.sleep(seconds)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(SOURCE, part)
    part.rename(target)
    logger.info("finish build %s, cost %.1f s", target, time.monotonic() - begun)


def folder() -> Path:
    """Where modules are looked for and built: AITER_JIT_DIR, else the package's own folder, else a copy of that below HOME."""
    if named := os.environ.get("AITER_JIT_DIR"):
        Path(named).mkdir(parents=True, exist_ok=True)
        return Path(named)
    if os.access(HERE, os.W_OK):
        return HERE
    copy = Path("~/.aiter/jit").expanduser()
    if not copy.exists():
        shutil.copytree(HERE, copy)
    return copy


def importable(name: str) -> Path:
    """Where a module is imported from. What was built in the copy below HOME is never found: it is on nobody's path."""
    return (folder() if os.environ.get("AITER_JIT_DIR") else HERE) / f"{name}.so"


def load(name: str) -> ctypes.CDLL:
    """Load a module, after building it where it is not found. Raises ModuleNotFoundError, and OSError from a mount without exec."""
    found = importable(name)
    if not found.exists():
        where = folder()
        (where / "build").mkdir(exist_ok=True)
        seconds = {**PREBUILT, **SHAPED}[name]
        file_baton.alone(where / "build" / f"lock_{name}", lambda: compiled(where / found.name, seconds))
    if not found.exists():
        raise ModuleNotFoundError(f"No module named '{name}'")
    library = ctypes.CDLL(str(found))
    logger.info("import [%s] under %s", name, found)
    return library
