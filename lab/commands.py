"""Run other programs and report progress. A failed program's output becomes the error; a step reports its time.

Used by all of lab/.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence


class LabError(Exception):
    """A failure in the lab: the action, what was seen, what to do next."""


def run(*command: str, stdin: bytes | None = None, timeout: float = 3600) -> str:
    """Run a program and return its output. Raises LabError with the end of its messages."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise LabError(f"{command[0]}: not on this machine\n  next:   apt-get install {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{shown(command)}: still running after {timeout:.0f} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise LabError(f"{shown(command)}: ended with {done.returncode}: " + "\n    ".join(lines[-8:] or ["no output"]))
    return done.stdout.decode(errors="replace").strip()


def works(*command: str) -> bool:
    """Whether a program exits with 0."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def docker(*arguments: str, stdin: bytes | None = None, timeout: float = 3600) -> str:
    """Run the Docker client and return its output."""
    return run("docker", *arguments, stdin=stdin, timeout=timeout)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Report the start of a step and, after success, its time."""
    say(f"{title} …")
    start = time.monotonic()
    yield
    say(f"{title}: done in {time.monotonic() - start:.0f} s")


def say(text: str) -> None:
    """Send a line of progress to the listeners, or to stderr when there are none."""
    listeners = list(_listeners)
    for listen in listeners:
        listen(text)
    if not listeners:
        print(f"lab: {text}", file=sys.stderr, flush=True)


_listeners: list[Callable[[str], None]] = []


@contextlib.contextmanager
def listener(listen: Callable[[str], None]) -> Iterator[None]:
    """Send lines of progress from any thread to `listen` while the body runs."""
    _listeners.append(listen)
    try:
        yield
    finally:
        _listeners.remove(listen)


def shown(command: Sequence[str]) -> str:
    """Return the command as one line of at most 100 characters."""
    line = " ".join(command)
    return line if len(line) <= 100 else f"{line[:97]}..."
