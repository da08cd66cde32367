"""What the forms of the cloud sources share: who logs in, from where, with which keys; and what a machine may say otherwise.

Pure. Used by the form of each cloud beside this file; what is made of it is in fleet/sources/cloud_machines.py.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

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
# How a size tells its GPUs: gpu-mi300x1-192gb, BM.GPU.MI300X.8. Others are whole machines.
SHAPE, WHOLE = re.compile(r"mi300x\.?(\d+)", re.IGNORECASE), 8


def _range(told: str) -> str:
    """Return an IPv4 range that is not open to all; the machines get no IPv6 address."""
    try:
        found = ipaddress.ip_network(told)
    except ValueError:
        raise pydantic_core.PydanticCustomError("no_range", "ADDRESS/BITS, e.g. 192.0.2.0/24") from None
    if found.prefixlen < WIDEST:
        words = "the ranges from which you administer, none wider than /8, e.g. 192.0.2.0/24"
        raise pydantic_core.PydanticCustomError("open_range", words)
    if found.version != 4:
        raise pydantic_core.PydanticCustomError("no_range", "an IPv4 range: the machines get no other address")
    return told


def _login(told: str) -> str:
    if told == "root":
        words = "a user who may sudo: root does not log in on a machine that a source makes"
        raise pydantic_core.PydanticCustomError("root", words)
    return told


Range = Annotated[str, AfterValidator(_range)]
Login = Annotated[str, Field(pattern=LOGIN), AfterValidator(_login)]
PublicKey = Annotated[str, Field(pattern=PUBLIC_KEY)]
Disk = Annotated[int, Field(ge=50, le=32768)]  # GB of the system's disk; none told: as large as the image
# The system's disk where nobody asks for one: as large as the image. OCI's boot volumes are then 50 GB, Azure's 30 to 128.
IMAGE_GB = 50
Word = Annotated[str, Field(pattern=WORD)]


class CloudMember(Member):
    """One machine that the source makes, and what it has otherwise than its pool. `gpus`: when the size does not tell it."""

    gpus: Gpus | None = None


class Cloud(Pool):
    """Machines that a cloud makes. `name` tells two pools of one cloud from each other (default: the source's name).

    `keys` are the public keys that may log in as `user`, `identity` is the file of a private one of them, on the controller.
    `ssh_from` are the only addresses from which anything reaches the machines, and SSH is all that does.
    """

    name: Name | Literal[""] = ""
    user: Login = "fleet"
    keys: list[PublicKey] = Field(min_length=1)
    identity: str = "~/.ssh/id_ed25519"
    ssh_from: list[Range] = Field(min_length=1)
    wait: Wait | None = None

    @property
    def label(self) -> str:
        """What the pool's own resources are called."""
        return self.name or self.source

    @property
    def members(self) -> Mapping[str, CloudMember]:
        """The machines by name."""
        raise NotImplementedError

    def of(self, name: str, key: str) -> Any:
        """Return what a machine says under this key, or its pool."""
        own = getattr(self.members[name], key)
        return getattr(self, key) if own is None else own

    def size_of(self, name: str) -> str:
        """Return what the cloud calls the machine's size."""
        raise NotImplementedError

    def gpus(self, name: str) -> int:
        """Return how many GPUs the machine has: as it says, else as its size does."""
        own = self.members[name].gpus
        found = SHAPE.search(self.size_of(name))
        return own if own is not None else int(found[1]) if found else WHOLE

    def system_disk(self, name: str) -> tuple[int, bool]:
        """Return what `disk` does, for a source with the key disk_gb."""
        named = self.of(name, "disk_gb")
        return (IMAGE_GB, False) if named is None else (int(named), True)

    @property
    def login(self) -> Sequence[str]:
        """What the user data tells and is no secret: user and keys. Another login reaches no machine that is there."""
        return (self.user, *self.keys)
