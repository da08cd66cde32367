"""Collects the files that the resources of one preview change, as their roles render them; nodes whose files change alike once.

Called by preview_record.py, from many threads. fleet.impact.role_files renders, which takes a tenth of a second for the first of alike nodes.
"""

import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fleet.impact.forecast import natural
from fleet.provider.base import ROOT
from fleet.provider.properties import UNKNOWN, Props
from fleet.review.record import FileRecord

if TYPE_CHECKING:
    from fleet.impact.role_files import FileChange

# Nodes that differ beyond these are not rendered: their files would fill no reviewer's screen.
MOST = 50


class FileDifferences:
    """The changed files of one preview."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rendered: dict[str, Sequence[FileChange]] = {}
        self._nodes: dict[FileChange, set[str]] = {}
        self.left_out = 0  # resources

    def add(self, node: str, inputs: Props, state: Props) -> None:
        """Add a resource of a node with its new inputs and its state, {} before a create, which writes all files."""
        old, new = state.get("vars"), inputs.get("vars")
        if not inputs.get("roles") or not isinstance(old, dict) or not isinstance(new, dict) or old == new:
            return
        from fleet.impact import (
            role_files,
        )  # Ansible's filters: a third of a second, which a preview without a record does not need

        key = json.dumps([inputs["roles"], old, new], sort_keys=True, default=str)
        with self._lock:  # also so that the threads of alike nodes wait for the first
            if key not in self._rendered:
                if len(self._rendered) >= MOST:
                    self.left_out += 1
                    return
                self._rendered[key] = role_files.changes(inputs["roles"], old, new, ROOT / "roles", UNKNOWN)
            for change in self._rendered[key]:
                self._nodes.setdefault(change, set()).add(node)

    def records(self) -> tuple[FileRecord, ...]:
        """Return the changed files, by path."""
        with self._lock:
            rows = [
                FileRecord(change.path, change.lines, change.whole, tuple(sorted(nodes, key=natural)))
                for change, nodes in self._nodes.items()
            ]
        return tuple(sorted(rows, key=lambda row: (row.path, -len(row.nodes), row.nodes)))
