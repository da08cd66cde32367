"""The form of source `oci`, Oracle's cloud. Used by `settings`; what is made of it is in fleet/sources/oci/machines.py."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fleet.schema import Name
from fleet.sources.cloud_form import Cloud, CloudMember, Disk, Range, Word
from fleet.sources.ssh.form import Wait

IMAGE = r"^ocid1\.image\.[a-z0-9-]+\.[a-z0-9-]*\.[a-z0-9]+$"
COMPARTMENT = r"^ocid1\.(compartment|tenancy)\.[a-z0-9-]+\.[a-z0-9-]*\.[a-z0-9]+$"
DOMAIN = r"^([A-Za-z0-9]+:)?[A-Z0-9-]+-AD-[1-9]$"
FORMS = {
    IMAGE: "the OCID of one image: `oci compute image list --compartment-id OCID`",
    COMPARTMENT: "the OCID of the compartment: `oci iam compartment list`",
    DOMAIN: "an availability domain, e.g. Uocm:PHX-AD-1: `oci iam availability-domain list`",
}
Image = Annotated[str, Field(pattern=IMAGE)]
Domain = Annotated[str, Field(pattern=DOMAIN)]


class OciMachine(CloudMember):
    """One instance, and what it has otherwise than its pool."""

    shape: Word | None = None
    image: Image | None = None
    availability_domain: Domain | None = None
    disk_gb: Disk | None = None


class Nodes(Cloud):
    """Instances in a network of the pool's own. The region is a setting of the cloud's plugin (`oci:region`)."""

    SDK: ClassVar[str] = "pulumi-oci"

    source: Literal["oci"]
    compartment: Annotated[str, Field(pattern=COMPARTMENT)]
    availability_domain: Domain
    shape: Word
    image: Image
    disk_gb: Disk | None = None
    network: Range = "10.42.0.0/24"
    wait: Wait | None = 1800  # bare metal: it runs for the cloud long before it answers
    machines: dict[Name, OciMachine] = Field(min_length=1)

    @property
    def members(self) -> Mapping[str, OciMachine]:
        """The machines by name."""
        return self.machines

    def size_of(self, name: str) -> str:
        """Return the machine's shape."""
        return str(self.of(name, "shape"))

    def disk(self, name: str) -> tuple[int, bool]:
        """Return the GB of the system's disk, and whether the stack file names them."""
        return self.system_disk(name)

    def place(self, name: str) -> dict[str, str]:
        """Return where the machine stands."""
        return {"zone": self.of(name, "availability_domain")}
