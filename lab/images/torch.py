"""The lab's torch for the CPU: from a folder of wheels, from PyTorch's CPU index, or from PyPI's wheel, made slim.

Needs pip; g++ for the last way (root installs it here). Called by serving.py.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lab import cache
from lab.commands import LabError, run, say, step, works
from lab.images import rootfs, slim_torch

VERSION = "2.13.0"
INDEX = "https://download.pytorch.org/whl/cpu"
PYPI_SHA256 = "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7"
RULES = Path(slim_torch.__file__)  # the rules of slimming: another file gives another wheel


def wheel(vision: Path) -> Path:
    """Return a wheel of torch VERSION+cpu, from the first of three places that has it. `vision` is torchvision's wheel."""
    if wheels := os.environ.get("LAB_WHEELS"):
        return _in_folder(Path(wheels))
    folder = cache.folder() / f"torch-{VERSION}-{cache.key([RULES])}"
    if not folder.exists():
        with cache.making(folder) as work:
            if _index_answers():
                with step(f"fetch torch {VERSION}+cpu from PyTorch's index (190 MB)"):
                    fetch([f"torch=={VERSION}+cpu"], work, f"--index-url={INDEX}")
            else:
                say(f"PyTorch's CPU index does not answer: making torch {VERSION} of PyPI slim (without CUDA)")
                _slim(vision, work)
    return next(folder.glob("torch-*.whl"))


def fetch(requirements: Iterable[str], folder: Path, *more: str) -> None:
    """Fetch the wheels of a requirements file's lines for the image's Python, 3.11. Any Python may run this."""
    form = ("--no-deps", "--only-binary=:all:", "--python-version=3.11")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements))
        file.flush()
        run(sys.executable, "-m", "pip", "download", "-q", *form, *more, "-d", str(folder), "-r", file.name)


def _slim(vision: Path, work: Path) -> None:
    rootfs.need("g++")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        with step(f"fetch torch {VERSION} from PyPI (527 MB)"):
            fetch([f"torch=={VERSION} --hash=sha256:{PYPI_SHA256}"], Path(folder))
        with step("make torch slim"):
            slim_torch.slim(next(Path(folder).glob("torch-*.whl")), vision, work)


def _in_folder(folder: Path) -> Path:
    pattern = re.compile(rf"torch-{re.escape(VERSION)}\+cpu-cp311-.*x86_64\.whl")
    for file in sorted(folder.glob("torch-*.whl")):
        if pattern.fullmatch(file.name):
            return file
    raise LabError(
        f"LAB_WHEELS: {folder} holds no torch {VERSION}+cpu for Python 3.11\n  next:   unset LAB_WHEELS, or put that wheel there"
    )


def _index_answers() -> bool:
    return works("curl", "-fsS", "-m", "10", "-o", "/dev/null", f"{INDEX}/torch/")
