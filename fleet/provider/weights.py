"""The resource Weights: the role weights, and what is known before a run that mends the files of the model.

Used by the servicer.
"""

from collections.abc import Mapping

from fleet.provider.playbook import Playbook
from fleet.provider.properties import UNKNOWN, Props

# What is given back without a fetch.
ATTRIBUTES = ("mode ", "owner ", "group ")


class Weights(Playbook):
    """The model's files; `manifest` (sha256 of manifest.json) is another one after every fetch, and restarts who loaded the files."""

    def foresee(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Files that drifted are verified or fetched again."""
        known = super().foresee(inputs, old_inputs, old)
        if any(_fetches(one) for one in (old or {}).get("drift") or ()):
            known["manifest"] = UNKNOWN
        return known


def _fetches(one: Mapping[str, str]) -> bool:
    """Whether mending this drift fetches: it concerns what the manifest names, or the manifest's content."""
    record = one["what"].startswith("file ") and one["what"].endswith("/manifest.json")
    return one["what"].startswith("files of ") or (record and not one["expected"].startswith(ATTRIBUTES))
