"""Temporary directory of a run; kills leftover processes.

Needs /proc to find processes, or the ps of macOS. Called by converge, which creates the directory, and by supervisor; each cleans up when
the other was killed.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

# Environment variable of every process of a run: the path of its directory.
MARK = "FLEET_RUN"
PROC = Path("/proc")


def create() -> Path:
    """Create the directory, 0700, in memory if the system allows it; its path is short, because the path of a socket in it is limited."""
    in_memory = (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm")
    parent = next((place for place in in_memory if place and os.access(place, os.W_OK | os.X_OK)), None)
    return Path(tempfile.mkdtemp(prefix="fleet-", dir=parent))


def processes(mark: Path) -> list[int]:
    """Return the pids of all living processes of the run, without the caller's own; `mark` is the run's directory.

    The ssh master overwrites its environment with its title, which contains the path of its socket in that directory.
    """
    if not (PROC / "self").exists():
        return [pid for pid, text in ps("-E") if _belongs(text, mark) and pid != os.getpid()]
    variable, socket, pids = f"{MARK}={mark}".encode(), f"{mark}/".encode(), []
    for entry in PROC.glob("[0-9]*"):
        # A process may end while it is read, or belong to another user.
        with contextlib.suppress(OSError):
            marked = variable in (entry / "environ").read_bytes().split(b"\0")
            title = (entry / "cmdline").read_bytes()
            if (marked or (title.startswith(b"ssh: ") and socket in title)) and int(entry.name) != os.getpid():
                pids.append(int(entry.name))
    return pids


def children() -> list[tuple[int, str]]:
    """Return (pid, command line) of the caller's children."""
    if not (PROC / "self").exists():
        return [(pid, text) for pid, text in ps() if text.startswith(f"{os.getpid()} ")]
    pids: list[str] = []
    commands = []
    for task in (PROC / "self" / "task").iterdir():
        with contextlib.suppress(OSError):  # a thread may end while it is read, like a process below
            pids += (task / "children").read_text().split()
    for pid in pids:
        with contextlib.suppress(OSError):
            command = (PROC / pid / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            commands.append((int(pid), command))
    return commands


def ps(*options: str) -> list[tuple[int, str]]:
    """Return (pid, "PARENT COMMAND LINE") of all processes from macOS's ps; with -E their environment follows."""
    command = ["ps", "-A", "-ww", *options, "-o", "pid=,ppid=,command="]
    lines = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout.splitlines()
    return [(int(words[0]), words[1]) for line in lines if len(words := line.split(None, 1)) == 2]


def _belongs(text: str, mark: Path) -> bool:
    """Return whether a line of ps is a process of the run: by its environment, or an ssh master by its title."""
    return f" {MARK}={mark} " in f"{text} " or (" ssh: " in text and f"{mark}/" in text)


def sweep(mark: Path, patience: float) -> None:
    """End every other process of the run: SIGTERM, and after `patience` seconds SIGKILL."""
    deadline = time.monotonic() + patience
    terminated_pids: set[int] = set()
    while remaining := processes(mark):
        late = time.monotonic() > deadline
        for pid in remaining:
            if late or pid not in terminated_pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                terminated_pids.add(pid)
        if late and time.monotonic() > deadline + 2:
            return  # it is in an uninterruptible wait of the kernel, and dies after that
        time.sleep(0.05)
