"""Form of the source `oci`, Oracle's cloud, in a stack file. Used by sources.forms; fleet/sources/oci/machines.py creates the instances."""

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
    """One instance, and its differences from the pool."""

    shape: Word | None = None
    image: Image | None = None
    availability_domain: Domain | None = None
    disk_gb: Disk | None = None


class Nodes(Cloud):
    """Instances in the pool's own network. The region is a setting of the cloud's plugin (`oci:region`)."""

    SDK: ClassVar[str] = "pulumi-oci"
    SIZE: ClassVar[str] = "shape"
    ZONE: ClassVar[str] = "availability_domain"

    source: Literal["oci"]
    compartment: Annotated[str, Field(pattern=COMPARTMENT)]
    availability_domain: Domain
    shape: Word
    image: Image
    disk_gb: Disk | None = None
    network: Range = "10.42.0.0/24"
    wait: Wait | None = 1800  # bare metal: the cloud calls it running long before it answers SSH
    machines: dict[Name, OciMachine] = Field(min_length=1)
