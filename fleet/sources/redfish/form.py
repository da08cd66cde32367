"""Form of the source `redfish` in a stack file: machines with a BMC. Used by sources.forms; machines.py beside it declares them.

A machine has either a host key, and is adopted as it is, or a nonce `reinstall`, which wipes it once.
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
# Keys that an installation needs; keys about the BMC or an installation, and not about SSH.
NEEDED = ("installer", "serve", "seed")
BARE = {"bmc", "system", "ca", "within", "bios", "reinstall", "serve_certificate", *NEEDED}

Text = Annotated[str, Field(min_length=1)]
Within = Annotated[int, Field(ge=60, le=6 * 3600)]  # seconds that an installer may work


class Installer(Form):
    """The site's installer image: its URL on a mirror, and its digest."""

    url: str = Field(pattern=SERVER)
    sha256: str = Field(pattern=SHA256)


class Seed(Form):
    """Answers for the installer: kind of system, keys that may log in, the site's own part of `autoinstall` or `preseed`."""

    kind: Literal["ubuntu", "debian"]
    authorized_keys: list[Annotated[str, Field(pattern=HOST_KEY.removesuffix("$") + r"( .*)?$")]] = Field(min_length=1)
    autoinstall: dict[str, Any] = {}
    preseed: str = ""


class BareDefaults(Defaults):
    """Defaults of the machines: SSH, BMC and installation."""

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
    """One machine with a BMC. `address` is where it answers SSH, if need be after its installation."""

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
    """Machines whose BMCs answer Redfish. `machines` may be the name of a file that lists them."""

    SECRETS: ClassVar[Mapping[str, str]] = {
        "redfish_username": "the user of the machines' BMCs",
        "redfish_password": "that user's password",
    }

    source: Literal["redfish"]
    defaults: BareDefaults = BareDefaults()
    machines: dict[Name, RedfishMachine] = Field(min_length=1)

    def options(self, name: str) -> dict[str, Any]:
        """Return the settings of one machine that are not empty, defaults filled in."""
        return {key: value for key, value in self.with_defaults(name).items() if value not in ("", {})}

    def connection(self, name: str) -> dict[str, Any]:
        """Return the SSH settings of one machine; of one with `reinstall` there is no host key."""
        return {key: value for key, value in self.options(name).items() if key not in BARE}

    def mistakes(self) -> Iterator[tuple[str, str, str]]:
        """Yield (key below `machines`, seen, allowed) for each mistake that involves several keys."""
        bmcs: dict[tuple[str, str], str] = {}
        for name, machine in self.machines.items():
            options = self.options(name)
            other = bmcs.setdefault((machine.bmc, options.get("system", "")), name)
            if other != name:
                yield f"{name}.bmc", f"{other} has the same BMC and system", "one name for one machine"
            if machine.host_key and machine.reinstall:
                allowed = "one of them: host_key adopts the existing system, reinstall wipes it for another"
                yield f"{name}.reinstall", "the machine has a host_key, too", allowed
            if not machine.host_key and not machine.reinstall:
                allowed = "host_key, of the existing system; or reinstall: NONCE, which wipes the machine once"
                yield name, "has neither host_key nor reinstall", allowed
            missing = [key for key in NEEDED if key not in options]
            if machine.reinstall and missing:
                seen = f"there is no {' and no '.join(missing)}"
                yield f"{name}.reinstall", seen, f"{' and '.join(missing)}, with the machine or in defaults"
