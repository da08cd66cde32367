"""The resources of the lab's cloud: droplets, which are lab nodes, and what is only remembered: tags, keys, firewalls.

Thin: a droplet is lab.machine's container with lab.images.cloud's cloud-init. No firewall is enforced: what it says is what the
tests look at. FLEET_LAB_CLOUD names the lab in which the droplets stand; without it they are only remembered, too. Used by the
plugin's process.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fleet import errors
from fleet.impact.effects import Effect
from fleet.provider.base import Fixed, Request
from fleet.provider.properties import Props
from lab import machine
from lab.cloud.api import GPUS, SOLD_OUT
from lab.commands import LabError, docker
from lab.images import cloud
from lab.provider.resources import folder

IMAGES = {"12": "debian-12", "13": "debian-13", "2204": "ubuntu-22.04", "2404": "ubuntu-24.04"}
OWN_KEY = "666"  # an Ubuntu 24.04 that takes no host key from outside, as if another machine had answered
NOWHERE = "192.0.2.40"  # the address of a droplet that is only remembered


class Kept(Fixed):
    """Something that is only remembered; its outputs are its inputs and one word more."""

    def __init__(self, *computed: str) -> None:
        self.computed = computed
        self.replace: tuple[str, ...] = ("publicKey",)

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Whatever it says is right."""
        return {}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """None on a machine."""
        return []

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Remember it."""
        return {**inputs, **{key: f"{key} of {request.name}" for key in self.computed}}

    def read(self, request: Request, properties: Props) -> Props:
        """As it was."""
        return properties

    def delete(self, request: Request, properties: Props) -> None:
        """Forget it."""


class Droplet(Kept):
    """One droplet. As of the real one, a change of user data, image, keys or region makes another."""

    def __init__(self) -> None:
        super().__init__("ipv4Address")
        self.replace = ("userData", "image", "sshKeys", "region")

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Make the node, or leave the one that stands; the resource Node waits until it answers."""
        if old:
            return {**inputs, "ipv4Address": old["ipv4Address"]}
        if inputs["size"] == SOLD_OUT:
            raise errors.FleetError(seen="POST /v2/droplets: 422 Size is not available in this region.")
        lab = os.environ.get("FLEET_LAB_CLOUD")
        try:
            return {**inputs, "ipv4Address": boot(lab, inputs) if lab else NOWHERE}
        except LabError as error:
            raise errors.FleetError(node=request.name, doing="make the droplet", seen=str(error)) from None

    def delete(self, request: Request, properties: Props) -> None:
        """Remove the container and its volumes."""
        if lab := os.environ.get("FLEET_LAB_CLOUD"):
            machine.remove(lab, properties["name"])


def boot(lab: str, inputs: Props) -> str:
    """Make a droplet and start it; return its address. cloud-init finds what it is to do where the image says."""
    name, image = inputs["name"], str(inputs["image"])
    tag = cloud.ensure(IMAGES.get(image, "ubuntu-24.04"))
    container, address = machine.make(lab, name, tag, GPUS[inputs["size"]], folder(lab))
    data = inputs["userData"]
    if image == OWN_KEY:
        told = json.loads(data.partition("\n")[2])
        del told["ssh_keys"]
        data = f"#cloud-config\n{json.dumps(told)}\n"
    with tempfile.TemporaryDirectory() as made:
        seed = Path(made)
        (seed / "user-data").write_text(data)
        (seed / "meta-data").write_text(f"instance-id: {container}\nlocal-hostname: {name}\n")
        docker("cp", f"{seed}/.", f"{container}:{cloud.SEED}/")
    docker("start", container)
    return address
