"""The resource Weights: the role weights, and what is known before a run that mends the files of the model.

Used by the servicer.
"""

from fleet import drift
from fleet.managed import revert
from fleet.provider.playbook import Playbook
from fleet.provider.properties import UNKNOWN, Props


class Weights(Playbook):
    """The model's files; `manifest` (sha256 of manifest.json) is another one after every fetch, and restarts who loaded the files."""

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Files that drifted are verified or fetched again."""
        known = super().planned_outputs(inputs, old_inputs, old)
        if any(map(_fetches, drift.recorded(old or {}))):
            known["manifest"] = UNKNOWN
        return known


def _fetches(one: drift.Difference) -> bool:
    """Whether mending this difference fetches: it concerns what the manifest names, or the manifest's content."""
    record = one.kind == "file" and one.name.endswith("/manifest.json")
    return one.kind == "files of" or (record and one.attribute not in revert.ATTRIBUTES)
