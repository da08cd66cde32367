"""The form of source `digitalocean`, and of AMD's Developer Cloud, which has the same API. Used by `settings`.

What is made of it is in fleet/sources/digitalocean/machines.py.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from fleet.schema import SERVER, Name
from fleet.sources.cloud_form import Cloud, CloudMember, Word

IMAGE = r"^[1-9][0-9]{0,11}$"
FORMS = {
    IMAGE: "the number of one image: a name such as gpu-amd-base moves on; `doctl compute image list --public` tells both"
}


def _text(told: Any) -> Any:
    return str(told) if isinstance(told, int) and not isinstance(told, bool) else told


Image = Annotated[str, BeforeValidator(_text), Field(pattern=IMAGE)]


class Droplet(CloudMember):
    """One droplet, and what it has otherwise than its pool."""

    size: Word | None = None
    image: Image | None = None
    region: Word | None = None


class Nodes(Cloud):
    """Droplets. `endpoint`: another API of the same form, e.g. https://api.devcloud.amd.com; the token is then one of that cloud.

    `account_keys` are keys that the account has already, by fingerprint; none: the pool's `keys` are put into the account.
    """

    SDK: ClassVar[str] = "pulumi-digitalocean"

    source: Literal["digitalocean"]
    endpoint: Annotated[str, Field(pattern=SERVER)] | None = None
    region: Word
    size: Word
    image: Image
    vpc: Word | None = None
    account_keys: list[Annotated[str, Field(min_length=1)]] = []
    machines: dict[Name, Droplet] = Field(min_length=1)

    @property
    def members(self) -> Mapping[str, Droplet]:
        """The machines by name."""
        return self.machines

    def size_of(self, name: str) -> str:
        """Return the slug of the machine's size."""
        return str(self.of(name, "size"))

    def place(self, name: str) -> dict[str, str]:
        """Return where the machine stands."""
        return {"zone": self.of(name, "region")}
