"""The resource Weights: runs the role weights, which fetches and verifies the model's files. Called by the servicer."""

from fleet import drift
from fleet.managed import revert
from fleet.provider.playbook import Playbook
from fleet.provider.properties import UNKNOWN, Props


class Weights(Playbook):
    """The model's files. Each fetch changes `manifest`, the sha256 of manifest.json, and so restarts the replicas that loaded them."""

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return them with `manifest` unknown if the repair of drift fetches files."""
        planned = super().planned_outputs(inputs, old_inputs, old)
        if any(map(_fetches, drift.recorded(old or {}))):
            planned["manifest"] = UNKNOWN
        return planned


def _fetches(difference: drift.Difference) -> bool:
    """Return whether its repair fetches: a file that the manifest lists differs, or the manifest's content."""
    manifest = difference.kind == "file" and difference.name.endswith("/manifest.json")
    return difference.kind == "files of" or (manifest and difference.attribute not in revert.ATTRIBUTES)
