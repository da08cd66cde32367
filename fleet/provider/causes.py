"""One cause is one message: which failures of a node this run has reported already.

Pure. Called by the servicer for every failed request. A node that does not answer fails each of its resources; the first of them has the
whole message.
"""

import threading

from fleet import errors
from fleet.provider import base


class Causes:
    """The failures that this run has reported, and beside which resource."""

    def __init__(self) -> None:
        self._reported: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def earlier(self, error: errors.FleetError, urn: str) -> str:
        """Return the kind of another resource that has reported this cause; "" where `urn` is the first, which is remembered.

        All that makes a node unreachable is one cause; other failures are the same cause when their text is the same.
        """
        if isinstance(error, errors.Cancelled) or not error.node:
            return ""
        cause = "unreachable" if isinstance(error, errors.Unreachable) else str(error)
        with self._lock:
            first = self._reported.setdefault((error.node, cause), urn)
        return "" if first == urn else base.kind_of(first)

    def message(self, error: errors.FleetError, urn: str) -> str:
        """Return the message for the resource `urn`: the whole error for a new cause, else one line."""
        earlier = self.earlier(error, urn)
        if not earlier:
            return str(error)
        return f"{error.node}: {base.kind_of(urn)}: not done, for the reason reported with {earlier}"
