"""The resources of the lab's cloud: droplets, which are lab nodes, and records without effect: tags, keys, firewalls.

A droplet is lab.machine's container with lab.images.cloud's cloud-init. Nothing enforces a firewall; the tests look at its inputs.
FLEET_LAB_CLOUD names the lab of the droplets; without it they are records without effect, too. Used by the plugin's process.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fleet import errors
from fleet.impact.effects import Effect
from fleet.provider.base import BaseResource, Request
from fleet.provider.properties import Props
from lab import machine
from lab.cloud.api import GPUS, INSIDE, SOLD_OUT
from lab.commands import LabError, docker
from lab.images import cloud
from lab.provider.resources import folder

IMAGES = {"12": "debian-12", "13": "debian-13", "2204": "ubuntu-22.04", "2404": "ubuntu-24.04"}
OWN_KEY = "666"  # an Ubuntu 24.04 that ignores a given host key, as if another machine answered
NOWHERE = "192.0.2.40"  # the address of a droplet without a node


class Kept(BaseResource):
    """A record without effect. Its outputs are its inputs and one more text for each computed name."""

    def __init__(self, *computed: str) -> None:
        self.computed = computed
        self.replace: tuple[str, ...] = ("publicKey",)

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Accept any inputs."""
        return {}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return none: no machine changes."""
        return []

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Return the inputs and the computed texts."""
        return {**inputs, **{key: f"{key} of {request.name}" for key in self.computed}}

    def read(self, request: Request, properties: Props) -> Props:
        """Return the properties unchanged."""
        return properties

    def delete(self, request: Request, properties: Props) -> None:
        """Do nothing."""


class Droplet(Kept):
    """A droplet. As with the real one, another user data, image, key or region replaces it."""

    def __init__(self) -> None:
        super().__init__("ipv4Address", "ipv4AddressPrivate")
        self.replace = ("userData", "image", "sshKeys", "region")

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Create the node unless it exists. The resource Node waits until it answers."""
        if old:
            return {**inputs, **{name: old[name] for name in self.computed}}
        if inputs["size"] == SOLD_OUT:
            raise errors.FleetError(seen="POST /v2/droplets: 422 Size is not available in this region.")
        lab = os.environ.get("FLEET_LAB_CLOUD")
        try:
            address = boot(lab, inputs) if lab else NOWHERE
            return {**inputs, "ipv4Address": address, "ipv4AddressPrivate": address if lab else INSIDE}
        except LabError as error:
            raise errors.FleetError(node=request.name, doing="make the droplet", seen=str(error)) from None

    def delete(self, request: Request, properties: Props) -> None:
        """Remove the container and its volumes."""
        if lab := os.environ.get("FLEET_LAB_CLOUD"):
            machine.remove(lab, properties["name"])


def boot(lab: str, inputs: Props) -> str:
    """Create a droplet, start it, and return its address. cloud-init reads its user data from the image's seed folder."""
    name, image = inputs["name"], str(inputs["image"])
    tag = cloud.ensure(IMAGES.get(image, "ubuntu-24.04"))
    container, address = machine.make(lab, name, tag, GPUS[inputs["size"]], folder(lab))
    data = inputs["userData"]
    if image == OWN_KEY:
        config = json.loads(data.partition("\n")[2])
        del config["ssh_keys"]
        data = f"#cloud-config\n{json.dumps(config)}\n"
    with tempfile.TemporaryDirectory() as folder_name:
        seed = Path(folder_name)
        (seed / "user-data").write_text(data)
        (seed / "meta-data").write_text(f"instance-id: {container}\nlocal-hostname: {name}\n")
        docker("cp", f"{seed}/.", f"{container}:{cloud.SEED}/")
    docker("start", container)
    return address
