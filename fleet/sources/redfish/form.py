"""The form of source `redfish`: machines with a BMC. Used by `settings`; what is made of it is in fleet/sources/redfish/machines.py.

A machine has a host key, and is adopted as it is; or a nonce `reinstall`, which wipes it once.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fleet.schema import HOST_KEY, SERVER, Form, Name
from fleet.sources.ssh.form import Defaults, Reached, SshMachine, Wait

BMC = r"^https://[^/\s]+$"
LISTEN = r"^[^\s/]+:[0-9]{1,5}$"
SHA256 = r"^[0-9a-f]{64}$"
NONCE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
FORMS = {
    BMC: "https://HOST of the BMC: its certificate is verified",
    LISTEN: "ADDRESS:PORT of this machine, which the BMCs reach",
    NONCE: "letters, digits, '.', '_' and '-', at most 64; another one for each installation",
    SHA256: "64 hexadecimal digits, as sha256sum prints them",
}
# What an installation needs, and what of a machine is about its BMC or an installation, and not about how it is reached.
NEEDED = ("installer", "serve", "seed")
BARE = {"bmc", "system", "ca", "within", "bios", "reinstall", "serve_certificate", *NEEDED}

Text = Annotated[str, Field(min_length=1)]
Within = Annotated[int, Field(ge=60, le=6 * 3600)]  # seconds that an installer may work


class Installer(Form):
    """The site's installer image: where its mirror has it, and which it is."""

    url: str = Field(pattern=SERVER)
    sha256: str = Field(pattern=SHA256)


class Seed(Form):
    """What the installer is told: of the system, whose keys may log in; the site's own part of `autoinstall` or `preseed`."""

    kind: Literal["ubuntu", "debian"]
    authorized_keys: list[Annotated[str, Field(pattern=HOST_KEY.removesuffix("$") + r"( .*)?$")]] = Field(min_length=1)
    autoinstall: dict[str, Any] = {}
    preseed: str = ""


class BareDefaults(Defaults):
    """How to reach a machine, its BMC, and how it is installed, where it does not say so itself."""

    wait: Wait = 1800
    system: str = ""
    ca: str = ""
    within: Within = 3600
    bios: dict[str, Any] = {}
    installer: Installer | None = None
    serve: Annotated[str, Field(pattern=LISTEN)] | None = None
    serve_certificate: str | None = None
    seed: Seed | None = None


class RedfishMachine(SshMachine):
    """One machine with a BMC. `address` is where it answers SSH, once it is installed if it is not."""

    host_key: str = Field(default="", pattern=HOST_KEY)
    bmc: str = Field(pattern=BMC)
    reinstall: str = Field(default="", pattern=NONCE)
    system: str | None = None
    ca: str | None = None
    within: Within | None = None
    bios: dict[str, Any] | None = None
    installer: Installer | None = None
    serve: Annotated[str, Field(pattern=LISTEN)] | None = None
    serve_certificate: str | None = None
    seed: Seed | None = None


class Nodes(Reached):
    """Machines whose BMCs answer Redfish. They may stand in a file of their own: then `machines` names it."""

    SECRETS: ClassVar[Mapping[str, str]] = {
        "redfish_username": "the user of the machines' BMCs",
        "redfish_password": "that user's password",
    }

    source: Literal["redfish"]
    defaults: BareDefaults = BareDefaults()
    machines: dict[Name, RedfishMachine] = Field(min_length=1)

    @property
    def members(self) -> Mapping[str, RedfishMachine]:
        """The machines by name."""
        return self.machines

    def whole(self, name: str) -> dict[str, Any]:
        """Return all that the stack says of one machine, defaults filled in."""
        return {key: value for key, value in self.told(name).items() if value not in ("", {})}

    def connection(self, name: str) -> dict[str, Any]:
        """Return how one machine is reached; of one that is to be installed without its host key."""
        return {key: value for key, value in self.whole(name).items() if key not in BARE}

    def wrong(self) -> Iterator[tuple[str, str, str]]:
        """Yield (key below `machines`, what is seen, what is allowed) of what no single key shows."""
        bmcs: dict[tuple[str, str], str] = {}
        for name, machine in self.machines.items():
            whole = self.whole(name)
            other = bmcs.setdefault((machine.bmc, whole.get("system", "")), name)
            if other != name:
                yield f"{name}.bmc", f"{other} has the same BMC and system", "one name for one machine"
            if machine.host_key and machine.reinstall:
                allowed = "one of them: host_key adopts the system that is there, reinstall wipes it for another"
                yield f"{name}.reinstall", "the machine has a host_key, too", allowed
            if not machine.host_key and not machine.reinstall:
                allowed = "host_key, of the system that is there; or reinstall: NONCE, which wipes the machine once"
                yield name, "has neither host_key nor reinstall", allowed
            missing = [key for key in NEEDED if key not in whole]
            if machine.reinstall and missing:
                seen = f"there is no {' and no '.join(missing)}"
                yield f"{name}.reinstall", seen, f"{' and '.join(missing)}, with the machine or in defaults"
