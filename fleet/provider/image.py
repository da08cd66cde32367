"""The resource Image: runs the role transformers, which builds the serving image. Called by the servicer."""

from collections.abc import Collection

from fleet.provider.playbook import Playbook
from fleet.provider.properties import Props


class Image(Playbook):
    """The serving image. A state from before `fleet pin` also has the input `resolved`, the tag in the stack file."""

    ignored_inputs: Collection[str] = ("resolved",)

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return them without `recipe` if the state is from before that output: the next run adds it, a preview shows no change."""
        planned = super().planned_outputs(inputs, old_inputs, old)
        if old is None or "recipe" in old:
            return planned
        return {name: value for name, value in planned.items() if name != "recipe"}

    def state_variables(self, old: Props | None) -> Props:
        """Return the state's image and recipe: for the same recipe a registry must not return another image."""
        image = {name: (old or {}).get(name) for name in ("image", "recipe")}
        return {"image_of_state": image} if all(image.values()) else {}
