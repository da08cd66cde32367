"""A limit for the Ansible runs of one provider process. Called by playbook.py; servicer.py sets the number."""

import contextlib
import threading
from collections.abc import Iterator

from fleet import errors
from fleet.provider.base import Request

PARALLEL = 4  # the default of `parallel` in the stack file


class Slots:
    """Slots for Ansible runs; a run without a slot waits, and reports that once."""

    def __init__(self, number: int = PARALLEL) -> None:
        self._number = number
        self._free = threading.Semaphore(number)

    @contextlib.contextmanager
    def hold(self, request: Request) -> Iterator[None]:
        """Wait for a slot and hold it. Raises Cancelled for a run that is cancelled while it waits."""
        reported = False
        while not self._free.acquire(timeout=0.2):
            if request.cancelled.is_set():
                raise errors.Cancelled(node=request.name, doing="wait for other runs", seen="cancelled")
            if not reported:
                request.report(f"waits for other Ansible runs: `parallel` is {self._number}", True)
                reported = True
        try:
            yield
        finally:
            self._free.release()
