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

    def foresee(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """As of each run; a state that was written before there was a recipe gets it with its next run, and does not differ until then."""
        found = super().foresee(inputs, old_inputs, old)
        if old is None or "recipe" in old:
            return found
        return {name: value for name, value in found.items() if name != "recipe"}

    def remembered(self, old: Props | None) -> Props:
        """Return the image of the state and the recipe that it was built by: of that recipe a registry must not give another image."""
        known = {name: (old or {}).get(name) for name in ("image", "recipe")}
        return {"image_of_state": known} if all(known.values()) else {}

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
