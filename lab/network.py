"""A lab's own bridge network: it takes a free subnet and assigns addresses one by one.

Needs a Docker daemon. Called by lab.site and lab.machine. Nothing of a lab listens outside its network.
"""

import fcntl
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import cache
from lab.commands import LabError, docker

# Private subnets that are rarely in use. One that is in use here is skipped.
CANDIDATES = [f"10.{second}.{third}.0/24" for second in range(77, 88) for third in (0, 77)]
SITE = 2  # the site's host number; .1 is the bridge


@dataclass(frozen=True)
class Network:
    """A lab's network, named after the lab."""

    name: str
    subnet: str
    sealed: bool = False  # its only way out is the site

    @property
    def gateway(self) -> str:
        """The bridge's address, at which nodes reach this machine."""
        return str(ipaddress.ip_network(self.subnet)[1])

    @property
    def site(self) -> str:
        """The address of the site."""
        return str(ipaddress.ip_network(self.subnet)[SITE])


def label(lab: str) -> str:
    """Return the label on every object of a lab."""
    return f"{cache.LABEL}={lab}"


def find(lab: str) -> Network | None:
    """Return the network of a lab, or None."""
    ids = docker("network", "ls", "--quiet", "--filter", f"label={label(lab)}").split()
    if not ids:
        return None
    settings = json.loads(docker("network", "inspect", ids[0]))[0]
    return Network(lab, settings["IPAM"]["Config"][0]["Subnet"], settings["Internal"])


def make(lab: str, sealed: bool = False) -> Network:
    """Return the lab's network. Create it on a free subnet when there is none; a sealed one has no way out."""
    if network := find(lab):
        return network
    used = [*_routes(), *_networks()]
    collisions = 0
    for subnet in CANDIDATES:
        if any(ipaddress.ip_network(subnet).overlaps(network) for network in used):
            continue
        network = Network(lab, subnet, sealed)
        kind = ["--internal"] if sealed else []
        try:
            docker(
                "network",
                "create",
                *kind,
                f"--label={label(lab)}",
                f"--subnet={subnet}",
                f"--gateway={network.gateway}",
                lab,
            )
        except LabError as error:
            if "overlap" not in str(error):
                raise
            collisions += 1  # in use since the check above
            continue
        return network
    raise LabError(
        f"make the network {lab}: every subnet is in use ({len(CANDIDATES)} checked, {collisions} tried)"
        "\n  wanted: one free /24 of 10.77.0.0 to 10.87.77.0\n  next:   `ip route`, `docker network ls`"
    )


def free_address(network: Network, folder: Path, owner: str) -> str:
    """Reserve an address for `owner` in addresses.json below `folder`. The same owner always gets the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "addresses.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        book = folder / "addresses.json"
        addresses: dict[str, str] = json.loads(book.read_text()) if book.exists() else {}
        if owner not in addresses:
            hosts = (str(host) for host in list(ipaddress.ip_network(network.subnet).hosts())[9:])
            addresses[owner] = next(host for host in hosts if host not in addresses.values())
            book.write_text(json.dumps(addresses, indent=1) + "\n")
        return addresses[owner]


def _routes() -> Iterator[ipaddress.IPv4Network]:
    """Yield the networks that this machine routes, without the default route."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        target, mask = (int.from_bytes(bytes.fromhex(fields[place])[::-1], "big") for place in (1, 7))
        if mask:
            yield ipaddress.IPv4Network((target, bin(mask).count("1")))


def _networks() -> Iterator[ipaddress.IPv4Network]:
    """Yield the subnets of Docker's networks, whose bridges may be down."""
    ids = docker("network", "ls", "--quiet").split()
    for network in json.loads(docker("network", "inspect", *ids)) if ids else ():
        for config in network["IPAM"]["Config"] or ():
            if "." in config.get("Subnet", ""):
                yield ipaddress.IPv4Network(config["Subnet"])
