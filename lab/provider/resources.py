"""The resources of the lab's plugin: Site (the network and what stands in for the internet) and Machine (one node).

Thin: properties in and out; the work is in lab.site and lab.machine. Used by the servicer of fleet.provider.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from fleet import errors
from fleet.impact.effects import Effect
from fleet.provider import base
from fleet.provider.base import Fixed, Request
from fleet.provider.properties import Props
from lab import commands, machine, site


class Site(Fixed):
    """One lab: its network, its site, its keys. Deleting it takes away whatever bears the lab's label."""

    computed: Collection[str] = ("network", "subnet", "gateway", "address", "vars", "identity")
    replace: Collection[str] = ("name", "sealed")

    def check(self, inputs: Props) -> Mapping[str, str]:
        """The name becomes that of containers, volumes and the network; its form was judged with the stack file."""
        return {} if inputs.get("name") else {"name": "is needed"}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Other systems need other images; the site itself stays."""
        return [Effect("none", (), ("the images that are missing are built",))]

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Make the site; one that stands keeps its keys and what was pushed to it."""
        if old and site.exists(inputs["name"]):
            return {**old, **inputs}
        with _told(request, "make the lab's site"):
            name, sealed = inputs["name"], bool(inputs.get("sealed"))
            return {**inputs, **site.create(name, inputs["systems"], folder(name), sealed)}

    def read(self, request: Request, properties: Props) -> Props | None:
        """Whether it is still there."""
        return properties if site.exists(properties["name"]) else None

    def delete(self, request: Request, properties: Props) -> None:
        """Take everything of the lab away."""
        with _told(request, "remove the lab"):
            site.remove(properties["name"], folder(properties["name"]))


class Machine(Fixed):
    """One node of a lab."""

    computed: Collection[str] = ("address", "port", "user", "identity", "host_key")
    replace: Collection[str] = ("site", "name", "system", "gpus")

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Judged with the stack file."""
        return {}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Every change of a node replaces it."""
        return []

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Make the node; the resource Node waits until it answers."""
        with _told(request, f"make the node {inputs['name']}"):
            lab = inputs["site"]
            made = machine.create(lab, inputs["name"], inputs["system"], inputs["gpus"], folder(lab))
            return {**inputs, **made}

    def read(self, request: Request, properties: Props) -> Props | None:
        """Whether its container is still there."""
        return properties if machine.exists(properties["site"], properties["name"]) else None

    def delete(self, request: Request, properties: Props) -> None:
        """Remove the container and its volumes."""
        with _told(request, f"remove the node {properties['name']}"):
            machine.remove(properties["site"], properties["name"])


def folder(lab: str) -> Path:
    """Where a lab keeps its keys: beside the stack's state, so that two clones do not share them."""
    return base.state_dir() / "lab" / lab


@contextlib.contextmanager
def _told(request: Request, doing: str) -> Iterator[None]:
    """Show the lab's progress beside the resource; what goes wrong becomes a message in the fleet's form."""
    with commands.listener(lambda text: request.say(text, False)):
        try:
            yield
        except commands.LabError as error:
            seen, _, after = str(error).partition("\n  next:   ")
            seen, _, wanted = seen.partition("\n  wanted: ")
            raise errors.FleetError(node=request.name, doing=doing, seen=seen, wanted=wanted, next=after) from None
