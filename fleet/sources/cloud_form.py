"""Form that the cloud sources share: user, public keys, ranges for SSH, and what each machine may override.

Pure. Used by form.py of each cloud and by fleet.stack; fleet/sources/cloud_machines.py creates the machines.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pydantic_core
from pydantic import AfterValidator, Field

from fleet.schema import Gpus, Name
from fleet.sources.pool import Member, Pool
from fleet.sources.ssh.form import Wait

PUBLIC_KEY = (
    r"^(sk-)?(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa)(@openssh\.com)? [A-Za-z0-9+/]{40,}={0,2}( [^\n]*)?$"
)
LOGIN = r"^[a-z_][a-z0-9_-]{0,30}$"
WORD = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # a size, a region, a zone: each cloud has its own
# A range wider than this is refused: nobody administers from so many addresses.
WIDEST = 8
# The number of GPUs in the name of a size: gpu-mi300x1-192gb, BM.GPU.MI300X.8. Other sizes are whole machines.
SIZE_GPUS, WHOLE_MACHINE = re.compile(r"mi300x\.?(\d+)", re.IGNORECASE), 8


def _range(text: str) -> str:
    """Return the text if it is an IPv4 range that is not open to all; the machines get no IPv6 address."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise pydantic_core.PydanticCustomError("no_range", "ADDRESS/BITS, e.g. 192.0.2.0/24") from None
    if network.prefixlen < WIDEST:
        wanted = "ranges of your own, none wider than /8, e.g. 192.0.2.0/24"
        raise pydantic_core.PydanticCustomError("open_range", wanted)
    if network.version != 4:
        raise pydantic_core.PydanticCustomError("no_range", "an IPv4 range: the machines get no other address")
    return text


def _login(user: str) -> str:
    if user == "root":
        wanted = "a user who may sudo: root does not log in on a machine that a source makes"
        raise pydantic_core.PydanticCustomError("root", wanted)
    return user


Range = Annotated[str, AfterValidator(_range)]
Login = Annotated[str, Field(pattern=LOGIN), AfterValidator(_login)]
PublicKey = Annotated[str, Field(pattern=PUBLIC_KEY)]
Disk = Annotated[int, Field(ge=50, le=32768)]  # GB of the system disk; default: as large as the image
# Size of the default system disk, as large as the image: OCI's boot volumes are then 50 GB, Azure's 30 to 128.
IMAGE_GB = 50
Word = Annotated[str, Field(pattern=WORD)]


class CloudMember(Member):
    """One machine of a cloud, and its differences from the pool. `gpus`: for a size whose name does not contain it."""

    gpus: Gpus | None = None


class Cloud(Pool):
    """Machines of a cloud. `name` distinguishes two pools of one cloud (default: the source's name).

    `keys` are the public keys that may log in as `user`, `identity` is the file of a private key of one of them, on the controller.
    SSH reaches the machines only from the addresses `ssh_from`. In a stack with a gateway, the gateways of other sources reach the node
    proxies here from the addresses `gateways_from`.
    """

    # The keys of a machine's size and of its zone.
    SIZE: ClassVar[str] = "size"
    ZONE: ClassVar[str]

    if TYPE_CHECKING:
        machines: Mapping[str, CloudMember]

    name: Name | Literal[""] = ""
    user: Login = "fleet"
    keys: list[PublicKey] = Field(min_length=1)
    identity: str = "~/.ssh/id_ed25519"
    ssh_from: list[Range] = Field(min_length=1)
    gateways_from: list[Range] = []
    wait: Wait | None = None

    @property
    def label(self) -> str:
        """The name of the pool's own resources."""
        return self.name or self.source

    def setting(self, name: str, key: str) -> Any:
        """Return a machine's value of a key, or its pool's where the machine has none."""
        own = getattr(self.machines[name], key)
        return getattr(self, key) if own is None else own

    def size_of(self, name: str) -> str:
        """Return the cloud's name of the machine's size."""
        return str(self.setting(name, self.SIZE))

    def gpus(self, name: str) -> int:
        """Return the number of the machine's GPUs: its own setting, else the number in its size."""
        own = self.machines[name].gpus
        match = SIZE_GPUS.search(self.size_of(name))
        return own if own is not None else int(match[1]) if match else WHOLE_MACHINE

    def disk(self, name: str) -> tuple[int, bool] | None:
        """Return the GB of the system disk, and whether the stack file sets them; None for a source without the key disk_gb."""
        if "disk_gb" not in type(self).model_fields:
            return None
        gigabytes = self.setting(name, "disk_gb")
        return (IMAGE_GB, False) if gigabytes is None else (int(gigabytes), True)

    def place(self, name: str) -> dict[str, str]:
        """Return the zone of the machine."""
        return {"zone": self.setting(name, self.ZONE)}

    @property
    def login(self) -> Sequence[str]:
        """The public part of the user data: user and keys. A change of it does not reach existing machines."""
        return (self.user, *self.keys)
