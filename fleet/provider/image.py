"""The resource Image: the role transformers, with a base image that a tag names pinned to what that is now, before anything is built.

Used by the servicer. Needs the registry only where the stack has a tag.
"""

from collections.abc import Callable, Mapping

from fleet.machine import registry
from fleet.provider.playbook import Playbook
from fleet.provider.structs import Props

BASE = "transformers_base_image"


class Image(Playbook):
    """The serving image. `resolved` among its inputs says which tag stood in the stack file; the policies refuse that."""

    def pin(self, inputs: Props, say: Callable[[str], None]) -> Props:
        """Put the digest in the place of a tag: so a preview shows it, and a run uses the one that the preview showed or a newer one."""
        known = inputs.get("vars")
        image = str(known.get(BASE) or "") if isinstance(known, Mapping) else ""
        if not image:
            return inputs
        found = registry.pinned(image)
        if found == image:
            return inputs
        say(f"{image} is {found} now")
        return {**inputs, "vars": {**inputs["vars"], BASE: found}, "resolved": {BASE: image}}
