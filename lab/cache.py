"""The lab's cache of built files, by content: a key over the recipe's files lets a second clone or CI run reuse them.

Called by lab.images. `make clean-cache` removes the folder, and the images by their label (bootstrap/clean-cache.sh).
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

LABEL = "glm-fleet-lab"  # on every image, container, volume and network of every lab
IMAGES = "glm-fleet-lab"  # the repository part of the images' names


def folder() -> Path:
    """Return the lab's folder in the user's cache directory."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = home / "glm-fleet" / "lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(files: Iterable[Path], *more: str) -> str:
    """Return 12 hex digits over the names and contents of files (all files of a folder) and over more text."""
    # Sorted, so that the clone's path does not matter.
    parts = sorted(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in _flat(files))
    return hashlib.sha256("\0".join([*parts, *more]).encode()).hexdigest()[:12]


@contextlib.contextmanager
def making(target: Path) -> Iterator[Path]:
    """Yield a folder to build in. It becomes `target` only after success, so that nothing uses half a build."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield work
        work.chmod(0o755)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(target)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _flat(files: Iterable[Path]) -> Iterator[Path]:
    for file in files:
        if file.is_dir():
            yield from (path for path in file.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        else:
            yield file
