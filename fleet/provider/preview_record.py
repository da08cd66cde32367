"""Records what a preview predicts, and from what, for `fleet review`: one event for the Pulumi engine at the end of the preview.

Called by the servicer, from many threads, and only if the environment asks for it: a digest of each state costs a millisecond.
"""

import json
import os
import threading
from collections.abc import Mapping, Sequence

from fleet.impact import forecast, forecast_turns
from fleet.provider.base import ROOT, SECRET, Resource, kind_of, name_of
from fleet.provider.engine import Engine
from fleet.provider.file_differences import FileDifferences
from fleet.provider.properties import UNKNOWN, Props, has_unknown
from fleet.review import record


class PreviewRecord:
    """The bases and versions of one preview's resources."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._enabled = bool(environment.get(record.RECORDS))
        self._lock = threading.Lock()
        self._files = FileDifferences()
        self._basis: dict[str, record.Basis] = {}
        self._versions: dict[str, list[record.VersionChange]] = {}

    def add(self, urn: str, resource: Resource, inputs: Props, state: Props) -> None:
        """Add a resource with its new inputs and its state, {} before a create."""
        if not self._enabled:
            return
        self._files.add(name_of(urn), inputs, state)
        basis = basis_of(urn, resource, inputs, state)
        versions = record.versions(name_of(urn), kind_of(urn), state, inputs, ROOT / "roles")
        with self._lock:
            self._basis[urn], self._versions[urn] = basis, versions

    def send(
        self,
        engine: Engine,
        beside: str,
        changes: Sequence[forecast.Change],
        turns: forecast_turns.Turns | None,
        parallel: int,
    ) -> None:
        """Send the event, if somebody asked for it, beside a resource."""
        if not self._enabled:
            return
        with self._lock:
            basis = dict(sorted(self._basis.items()))
            versions = tuple(version for urn in basis for version in self._versions[urn])
        files, left_out = self._files.records(), self._files.left_out
        prediction = record.Prediction(tuple(changes), basis, versions, turns, parallel, files, left_out)
        engine.record(beside, record.RECORD + json.dumps(prediction.to_json(), separators=(",", ":")))


def basis_of(urn: str, resource: Resource, inputs: Props, state: Props) -> record.Basis:
    """Return what a prediction about a resource is computed from: the same in a preview and in the update after it."""
    known = {name: value for name, value in state.items() if value != UNKNOWN}
    return record.basis(kind_of(urn), inputs, known, (*SECRET, *resource.ignored_inputs), not has_unknown(inputs))
