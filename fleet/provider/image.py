"""The resource Image: the role transformers. Used by the servicer."""

from collections.abc import Collection

from fleet.provider.playbook import Playbook
from fleet.provider.properties import Props


class Image(Playbook):
    """The serving image. Releases before `fleet pin` wrote `resolved` into the state: which tag the stack file had named."""

    ignored_inputs: Collection[str] = ("resolved",)

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """As of each run; a state that was written before there was a recipe gets it with its next run, and does not differ until then."""
        found = super().planned_outputs(inputs, old_inputs, old)
        if old is None or "recipe" in old:
            return found
        return {name: value for name, value in found.items() if name != "recipe"}

    def remembered(self, old: Props | None) -> Props:
        """Return the image of the state and the recipe that it was built by: of that recipe a registry must not give another image."""
        known = {name: (old or {}).get(name) for name in ("image", "recipe")}
        return {"image_of_state": known} if all(known.values()) else {}
