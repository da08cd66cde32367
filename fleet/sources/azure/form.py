"""Form of the source `azure` in a stack file. Used by sources.forms; fleet/sources/azure/machines.py creates the machines."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fleet.schema import Name
from fleet.sources.cloud_form import Cloud, CloudMember, Disk, Range, Word

IMAGE = (
    r"^([A-Za-z0-9_.-]+:){3}[0-9]+(\.[0-9]+)+$"
    r"|^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute"
    r"(/images/[^/]+|/galleries/[^/]+/images/[^/]+/versions/[0-9]+(\.[0-9]+)+)$"
)
FORMS = {
    IMAGE: "PUBLISHER:OFFER:SKU:VERSION with a version of digits (`latest` moves on; `az vm image list --all -p microsoft-dsvm -f ubuntu-hpc`), "
    "or the id of an image or of a gallery's version"
}
Image = Annotated[str, Field(pattern=IMAGE)]


class AzureMachine(CloudMember):
    """One virtual machine, and its differences from the pool."""

    size: Word | None = None
    image: Image | None = None
    zone: Word | None = None
    disk_gb: Disk | None = None


class Nodes(Cloud):
    """Virtual machines in the pool's own resource group, network and subnet. `network` is the range of that network."""

    SDK: ClassVar[str] = "pulumi-azure-native"

    source: Literal["azure"]
    location: Word
    size: Word
    image: Image
    zone: Word | None = None
    disk_gb: Disk | None = None
    network: Range = "10.42.0.0/24"
    machines: dict[Name, AzureMachine] = Field(min_length=1)

    def place(self, name: str) -> dict[str, str]:
        """Return the zone of the machine: the location and, where it has one, Azure's zone."""
        zone = self.setting(name, "zone")
        return {"zone": f"{self.location}-{zone}" if zone else self.location}
