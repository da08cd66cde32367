"""The Docker daemon answers only root on its machine, and pulls images only from registries with a verified certificate."""

from collections.abc import Callable, Iterator

from fleet.findings import Finding
from policies.context import Context, value_at
from policies.rule import ResourceRule

VARIABLE = "docker_daemon_options"
# The daemon may listen on its own socket, or on one that systemd passes to it.
LOCAL = ("unix://", "fd://")
SOURCE = "Docker documentation, Protect the Docker daemon socket; dockerd --help"


def listens_locally(context: Context) -> Iterator[Finding]:
    """Yield each network address on which the daemon would listen."""
    hosts = value_at(context.var(VARIABLE) or {}, "hosts", absent=[])
    for host in hosts if isinstance(hosts, list) else [hosts]:
        if not str(host).startswith(LOCAL):
            yield Finding(f"{VARIABLE}.hosts has {host!r}")


def empty(option: str) -> Callable[[Context], Iterator[Finding]]:
    """Return the check of an option of the daemon that must list nothing."""

    def check(context: Context) -> Iterator[Finding]:
        if entries := value_at(context.var(VARIABLE) or {}, option, absent=[]):
            yield Finding(f"{VARIABLE}.{option} has {entries!r}")

    return check


RULES = (
    ResourceRule(
        name="daemon-listens-locally",
        holds="The Docker daemon listens on no network.",
        reason="anyone who reaches that port is root on the machine",
        remedy="leave hosts out; use the daemon over SSH, with a context of `docker context create`",
        source=SOURCE,
        kinds=("Host",),
        check=listens_locally,
    ),
    ResourceRule(
        name="registries-proved",
        holds="Images come only from registries whose certificate is verified.",
        reason="anyone between the machine and the registry can otherwise replace the image",
        remedy="leave insecure-registries out; put the CA of a private registry into docker_registry_certificates",
        source=SOURCE,
        kinds=("Host",),
        check=empty("insecure-registries"),
    ),
    ResourceRule(
        name="no-daemon-plugins",
        holds="No plugin decides what the Docker daemon does.",
        reason="it sees every request, and can allow one or stop the replicas",
        remedy="leave authorization-plugins out",
        source=SOURCE,
        kinds=("Host",),
        check=empty("authorization-plugins"),
    ),
)
