"""A run's private folder and the processes that bear its mark; nothing of either outlives the run.

Needs /proc to find processes. Called by converge (which makes the folder) and by the supervisor; each cleans up when the
other was killed.
"""

import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path

# In the environment of every process of a run: the path of its private folder.
MARK = "FLEET_RUN"


def folder() -> Path:
    """Make the folder, 0700, in memory where the system has a place for that; a short path, for a socket lies in it."""
    places = (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm")
    parent = next((place for place in places if place and os.access(place, os.W_OK | os.X_OK)), None)
    return Path(tempfile.mkdtemp(prefix="fleet-", dir=parent))


def processes(mark: Path) -> list[int]:
    """Return the pids of all living processes of the run, without the caller's own.

    The ssh master writes its title over its environment; the title names its socket, which lies in the folder.
    """
    wanted, socket, found = f"{MARK}={mark}".encode(), f"{mark}/".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at, or belong to somebody else.
        with contextlib.suppress(OSError):
            marked = wanted in (entry / "environ").read_bytes().split(b"\0")
            title = (entry / "cmdline").read_bytes()
            if (marked or (title.startswith(b"ssh: ") and socket in title)) and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def sweep(mark: Path, patience: float) -> None:
    """End every other process of the run: SIGTERM, and after `patience` seconds SIGKILL."""
    deadline = time.monotonic() + patience
    told: set[int] = set()
    while left := processes(mark):
        late = time.monotonic() > deadline
        for pid in left:
            if late or pid not in told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                told.add(pid)
        if late and time.monotonic() > deadline + 2:
            return  # In an uninterruptible wait of the kernel: it dies when that ends.
        time.sleep(0.05)
