"""Form of the source `digitalocean` in a stack file, also for AMD's Developer Cloud, which has the same API.

Used by sources.forms; fleet/sources/digitalocean/machines.py creates the droplets.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from fleet.schema import SERVER, Name
from fleet.sources.cloud_form import Cloud, CloudMember, Word

IMAGE = r"^[1-9][0-9]{0,11}$"
FORMS = {
    IMAGE: "the number of one image: a name such as gpu-amd-base moves on; `doctl compute image list --public` lists both"
}


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Image = Annotated[str, BeforeValidator(_text), Field(pattern=IMAGE)]


class Droplet(CloudMember):
    """One droplet, and its differences from the pool."""

    size: Word | None = None
    image: Image | None = None
    region: Word | None = None


class Nodes(Cloud):
    """Droplets. `endpoint`: another cloud with the same API, e.g. https://api.devcloud.amd.com, which then needs its own token.

    `account_keys` are fingerprints of keys that the account has already; without them the pool's `keys` are added to the account.
    """

    SDK: ClassVar[str] = "pulumi-digitalocean"
    ZONE: ClassVar[str] = "region"

    source: Literal["digitalocean"]
    endpoint: Annotated[str, Field(pattern=SERVER)] | None = None
    region: Word
    size: Word
    image: Image
    vpc: Word | None = None
    account_keys: list[Annotated[str, Field(min_length=1)]] = []
    machines: dict[Name, Droplet] = Field(min_length=1)
