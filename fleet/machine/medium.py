"""The site's installer image: whether what its mirror serves is what the stack has pinned, before any disk is wiped with it.

Reads the whole image once in the life of a process, whoever asks. Needs httpx (imported when called) and the mirror. Called by install.
"""

import hashlib
import ssl
import threading
import time
from collections.abc import Callable

from fleet import errors

SILENCE = 20.0  # seconds without a byte
_lock = threading.Lock()
_right: set[tuple[str, str]] = set()


def verify(node: str, url: str, sha256: str, note: Callable[[str], None], cancelled: threading.Event) -> None:
    """Raise FleetError unless the image at `url` has this digest."""
    with _lock:  # machines that are installed side by side read it once
        if (url, sha256) not in _right:
            found = _digest(node, url, note, cancelled)
            if found != sha256:
                todo = "find out who changed it; pin the new digest only when it is yours"
                raise _error(node, url, f"its sha256 is {found}", sha256, todo)
            _right.add((url, sha256))


def _digest(node: str, url: str, note: Callable[[str], None], cancelled: threading.Event) -> str:
    import httpx

    found, read, told = hashlib.sha256(), 0, time.monotonic()
    try:
        with (
            httpx.Client(verify=ssl.create_default_context(), timeout=SILENCE, follow_redirects=True) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.status_code != 200:
                raise _error(node, url, f"{answer.status_code} from its server", "the image", f"curl -I {url}")
            size = int(answer.headers.get("Content-Length") or 0)
            for part in answer.iter_raw():
                if cancelled.is_set():
                    raise errors.Cancelled(node=node, doing=f"read {url}", seen="cancelled")
                found.update(part)
                read += len(part)
                if time.monotonic() - told > 2:
                    told = time.monotonic()
                    note(f"reads the installer image: {read >> 20} of {size >> 20} MiB")
    except httpx.TransportError as error:
        seen = "no answer" if isinstance(error, httpx.TimeoutException) else "its server cannot be reached"
        raise _error(node, url, seen, "the image, from this machine too", f"curl -I {url}") from error
    return found.hexdigest()


def _error(node: str, url: str, seen: str, wanted: str, todo: str) -> errors.FleetError:
    return errors.FleetError(
        node=node, doing=f"compare {url} with its pinned digest", seen=seen, wanted=wanted, next=todo
    )
