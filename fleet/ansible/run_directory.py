"""A run's private folder and the processes that bear its mark; nothing of either outlives the run.

Needs /proc to find processes, or the ps of macOS. Called by converge (which makes the folder) and by the supervisor; each cleans up when the
other was killed.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

# In the environment of every process of a run: the path of its private folder.
MARK = "FLEET_RUN"
PROC = Path("/proc")


def folder() -> Path:
    """Make the folder, 0700, in memory where the system has a place for that; a short path, for a socket lies in it."""
    places = (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm")
    parent = next((place for place in places if place and os.access(place, os.W_OK | os.X_OK)), None)
    return Path(tempfile.mkdtemp(prefix="fleet-", dir=parent))


def processes(mark: Path) -> list[int]:
    """Return the pids of all living processes of the run, without the caller's own.

    The ssh master writes its title over its environment; the title names its socket, which lies in the folder.
    """
    if not (PROC / "self").exists():
        return [pid for pid, text in listed("-E") if _of(text, mark) and pid != os.getpid()]
    wanted, socket, found = f"{MARK}={mark}".encode(), f"{mark}/".encode(), []
    for entry in PROC.glob("[0-9]*"):
        # A process may end while it is looked at, or belong to somebody else.
        with contextlib.suppress(OSError):
            marked = wanted in (entry / "environ").read_bytes().split(b"\0")
            title = (entry / "cmdline").read_bytes()
            if (marked or (title.startswith(b"ssh: ") and socket in title)) and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def children() -> list[tuple[int, str]]:
    """Return (pid, command line) of the caller's children."""
    if not (PROC / "self").exists():
        return [(pid, text) for pid, text in listed() if text.startswith(f"{os.getpid()} ")]
    pids: list[str] = []
    found = []
    for task in (PROC / "self" / "task").iterdir():
        with contextlib.suppress(OSError):  # a thread may end while it is looked at, as a process below
            pids += (task / "children").read_text().split()
    for pid in pids:
        with contextlib.suppress(OSError):
            command = (PROC / pid / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append((int(pid), command))
    return found


def listed(*options: str) -> list[tuple[int, str]]:
    """Return (pid, "PARENT COMMAND LINE") of all processes as macOS's ps lists them; with -E their environment follows."""
    command = ["ps", "-A", "-ww", *options, "-o", "pid=,ppid=,command="]
    lines = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout.splitlines()
    return [(int(words[0]), words[1]) for line in lines if len(words := line.split(None, 1)) == 2]


def _of(text: str, mark: Path) -> bool:
    """Whether a line of ps is of a process of the run: by its environment, or an ssh master by its title."""
    return f" {MARK}={mark} " in f"{text} " or (" ssh: " in text and f"{mark}/" in text)


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
