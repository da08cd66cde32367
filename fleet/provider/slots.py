"""A limit for the Ansible runs of one provider process. Used by playbook.py; the servicer sets the number."""

import contextlib
import threading
from collections.abc import Iterator

from fleet import errors
from fleet.provider.base import Request

PARALLEL = 4  # runs at once, where the stack does not say


class Slots:
    """Limit how many Ansible runs work at once; the others wait, and report that they do."""

    def __init__(self, number: int = PARALLEL) -> None:
        self._free = threading.Semaphore(number)

    @contextlib.contextmanager
    def one(self, request: Request) -> Iterator[None]:
        """Hold a slot. Raises Cancelled for a run that is cancelled while it waits."""
        reported = False
        while not self._free.acquire(timeout=0.2):
            if request.cancelled.is_set():
                raise errors.Cancelled(node=request.name, doing="wait for other runs", seen="cancelled")
            if not reported:
                request.say("waits: as many Ansible runs as `parallel` allows are at work", True)
                reported = True
        try:
            yield
        finally:
            self._free.release()
