"""One builder at a time, by a lock file with the builder's process and host in it; the others wait until it is gone.

A lock whose process has ended is taken away, but only on the host that is written in it: of another host's process nothing can be known.
A container has a new host name at each start, so what a killed one left is waited for without end.
"""

import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger("aiter")
POLL = 0.2  # seconds
GRACE = 10.0  # seconds that a lock without an owner is left alone


class FileBaton:
    """The lock at a path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        """Make the lock file; False where there is one."""
        try:
            with self._path.open("x") as file:
                file.write(f"{os.getpid()}\n{socket.gethostname()}\n")
        except FileExistsError:
            return False
        return True

    def wait(self) -> bool:
        """Wait until the lock is gone; False where its builder had ended and it was taken away here."""
        logger.info("[pid=%d] waiting for baton release at %s", os.getpid(), self._path)
        while self._path.exists():
            if self._stale() and self._steal():
                logger.warning("[pid=%d] broke stale lock at %s", os.getpid(), self._path)
                return False
            time.sleep(POLL)
        return True

    def release(self) -> None:
        """Take the lock file away."""
        self._path.unlink(missing_ok=True)

    def _stale(self) -> bool:
        try:
            lines = self._path.read_text().splitlines()
            if len(lines) < 2 or not lines[0].isdigit():
                return time.time() - self._path.stat().st_mtime > GRACE
        except OSError:
            return False
        if lines[1] != socket.gethostname():
            return False
        try:
            os.kill(int(lines[0]), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def _steal(self) -> bool:
        """Take the lock away under one more lock, so that only one of those who wait does."""
        thief = self._path.with_name(f"{self._path.name}.steal")
        try:
            thief.touch(exist_ok=False)
        except FileExistsError:
            return False
        try:
            if not self._stale():
                return False
            self.release()
            return True
        finally:
            thief.unlink(missing_ok=True)


def alone(path: Path, work: Callable[[], None]) -> None:
    """Do work under the lock at a path; nothing where another one did it meanwhile."""
    baton = FileBaton(path)
    while not baton.acquire():
        if baton.wait():
            return
    try:
        work()
    finally:
        baton.release()
