"""The site's installer image on this machine: what its mirror serves, kept only when it is what the stack has pinned.

The BMC gets these bytes from us (shelf): what a mirror, or who stands in its way, would answer to the BMC counts for nothing. Owns the kept
images in the user's cache. Reads a whole image once in the life of a process, whoever asks. Needs httpx (imported when called). Called by install.
"""

import hashlib
import os
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fleet import errors

SILENCE = 20.0  # seconds without a byte
BLOCK = 1 << 20
_lock = threading.Lock()
_right: dict[str, Path] = {}


def fetch(node: str, url: str, sha256: str, note: Callable[[str], None], cancelled: threading.Event) -> Path:
    """Return a file with the image of this digest, from the cache or from `url`. Raises FleetError, Cancelled; then nothing is kept."""
    with _lock:  # machines that are installed side by side fetch it once
        if sha256 not in _right:
            kept = _folder() / f"{sha256}.image"
            if not (kept.is_file() and _digest(kept) == sha256):
                _download(node, url, sha256, kept, note, cancelled)
            _right[sha256] = kept
        return _right[sha256]


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "glm-fleet" / "installers"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _download(
    node: str, url: str, sha256: str, kept: Path, note: Callable[[str], None], cancelled: threading.Event
) -> None:
    import httpx

    found, length, noted = hashlib.sha256(), 0, time.monotonic()
    with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=f"{kept.name}.", delete=False) as part:
        try:
            with (
                httpx.Client(verify=ssl.create_default_context(), timeout=SILENCE, follow_redirects=True) as client,
                client.stream("GET", url) as answer,
            ):
                if answer.status_code != 200:
                    raise _error(node, url, f"{answer.status_code} from its server", "the image", f"curl -I {url}")
                size = int(answer.headers.get("Content-Length") or 0)
                _room(node, url, size, kept.parent)
                for block in answer.iter_raw(BLOCK):
                    if cancelled.is_set():
                        raise errors.Cancelled(node=node, doing=f"fetch {url}", seen="cancelled")
                    found.update(block)
                    part.write(block)
                    length += len(block)
                    if time.monotonic() - noted > 2:
                        noted = time.monotonic()
                        note(f"fetches the installer image: {length >> 20} of {size >> 20} MiB")
            if found.hexdigest() != sha256:
                next = "find out who changed it; pin the new digest only when it is yours"
                raise _error(node, url, f"its sha256 is {found.hexdigest()}", sha256, next)
            part.flush()
            Path(part.name).replace(kept)
        except httpx.TransportError as error:
            seen = "no answer" if isinstance(error, httpx.TimeoutException) else "its server cannot be reached"
            raise _error(node, url, seen, "the image, from this machine too", f"curl -I {url}") from error
        finally:
            Path(part.name).unlink(missing_ok=True)


def _room(node: str, url: str, size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        seen = f"{free >> 20} MiB are free in {folder}"
        raise _error(
            node, url, seen, f"{size >> 20} MiB for the image", "make room; XDG_CACHE_HOME chooses another folder"
        )


def _error(node: str, url: str, seen: str, wanted: str, next: str) -> errors.FleetError:
    return errors.FleetError(
        node=node, doing=f"compare {url} with its pinned digest", seen=seen, wanted=wanted, next=next
    )
