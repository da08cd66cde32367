"""Running other programs: one that fails says what it said; a step says what it does and how long it took.

Called by all of lab/. Needs nothing.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence


class LabError(Exception):
    """Something that the lab needs did not work: what was done, what was seen, what to do."""


def run(*command: str, stdin: bytes | None = None, timeout: float = 3600) -> str:
    """Run a program and return its output; LabError with the end of what it said when it fails."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise LabError(f"{command[0]}: not on this machine\n  next:   apt-get install {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{shown(command)}: no end within {timeout:.0f} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise LabError(
            f"{shown(command)}: ended with {done.returncode}: " + "\n    ".join(lines[-8:] or ["without a word"])
        )
    return done.stdout.decode(errors="replace").strip()


def works(*command: str) -> bool:
    """Whether a program ends with 0."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def docker(*arguments: str, stdin: bytes | None = None, timeout: float = 3600) -> str:
    """Run the Docker client."""
    return run("docker", *arguments, stdin=stdin, timeout=timeout)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what begins, and when it went well how long it took."""
    say(f"{what} …")
    start = time.monotonic()
    yield
    say(f"{what}: done in {time.monotonic() - start:.0f} s")


def say(text: str) -> None:
    """A line of progress: to whoever listens, else to stderr."""
    listeners = list(_listeners)
    for listen in listeners:
        listen(text)
    if not listeners:
        print(f"lab: {text}", file=sys.stderr, flush=True)


_listeners: list[Callable[[str], None]] = []


@contextlib.contextmanager
def listener(listen: Callable[[str], None]) -> Iterator[None]:
    """Send lines of progress to `listen`, from whichever thread they come, for the time of the body."""
    _listeners.append(listen)
    try:
        yield
    finally:
        _listeners.remove(listen)


def shown(command: Sequence[str]) -> str:
    """The command as a short line."""
    line = " ".join(command)
    return line if len(line) <= 100 else f"{line[:97]}..."
