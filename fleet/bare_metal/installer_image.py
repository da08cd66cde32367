"""Downloads the site's installer image to this machine and verifies it against the digest that the stack pins.

The BMC fetches the verified bytes from us (seed_server), never from the mirror, whose answers anybody on the way could change. Owns the
images in the user's cache; hashes each once a process. Needs httpx (imported when called). Called by install.
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
_verified: dict[str, Path] = {}


def fetch(node: str, url: str, sha256: str, note: Callable[[str], None], cancelled: threading.Event) -> Path:
    """Return a file with the image of this digest, from the cache or from `url`. Raises FleetError, Cancelled; then no file stays."""
    with _lock:  # machines that are installed side by side download it once
        if sha256 not in _verified:
            file = _folder() / f"{sha256}.image"
            if not (file.is_file() and _digest(file) == sha256):
                _download(node, url, sha256, file, note, cancelled)
            _verified[sha256] = file
        return _verified[sha256]


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "glm-fleet" / "installers"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _download(
    node: str, url: str, sha256: str, file: Path, note: Callable[[str], None], cancelled: threading.Event
) -> None:
    import httpx

    digest, length, last_note = hashlib.sha256(), 0, time.monotonic()
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f"{file.name}.", delete=False) as part:
        try:
            with (
                httpx.Client(verify=ssl.create_default_context(), timeout=SILENCE, follow_redirects=True) as client,
                client.stream("GET", url) as answer,
            ):
                if answer.status_code != 200:
                    raise _error(node, url, f"{answer.status_code} from its server", "the image", f"curl -I {url}")
                size = int(answer.headers.get("Content-Length") or 0)
                free = shutil.disk_usage(file.parent).free
                if size > free:
                    seen, wanted = f"{free >> 20} MiB are free in {file.parent}", f"{size >> 20} MiB for the image"
                    raise _error(node, url, seen, wanted, "make room; XDG_CACHE_HOME chooses another folder")
                for block in answer.iter_raw(BLOCK):
                    if cancelled.is_set():
                        raise errors.Cancelled(node=node, doing=f"fetch {url}", seen="cancelled")
                    digest.update(block)
                    part.write(block)
                    length += len(block)
                    if time.monotonic() - last_note > 2:
                        last_note = time.monotonic()
                        note(f"fetches the installer image: {length >> 20} of {size >> 20} MiB")
            if digest.hexdigest() != sha256:
                next = "find out who changed it; pin the new digest only when it is yours"
                raise _error(node, url, f"its sha256 is {digest.hexdigest()}", sha256, next)
            part.flush()
            Path(part.name).replace(file)
        except httpx.TransportError as error:
            seen = "no answer" if isinstance(error, httpx.TimeoutException) else "its server cannot be reached"
            raise _error(node, url, seen, "the image, from this machine too", f"curl -I {url}") from error
        finally:
            Path(part.name).unlink(missing_ok=True)


def _error(node: str, url: str, seen: str, wanted: str, next: str) -> errors.FleetError:
    return errors.FleetError(
        node=node, doing=f"compare {url} with its pinned digest", seen=seen, wanted=wanted, next=next
    )
