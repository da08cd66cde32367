"""Report each cause of failure once: a node that does not answer fails all of its resources, and the first has the whole message.

Pure. Called by the servicer for each failed request.
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
        """Return the kind of another resource that has reported this cause; record `urn` and return "" if it is the first.

        All failures to reach a node are one cause; other failures are the same cause if their text is the same.
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
