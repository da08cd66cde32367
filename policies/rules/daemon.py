"""The Docker daemon answers nobody but root on its machine, and takes images only from registries that prove who they are."""

from collections.abc import Callable, Iterator

from policies.context import Context, known
from policies.rule import Rule, Violation

VARIABLE = "docker_daemon_options"
# Where the daemon may listen: its own socket, or the one that systemd hands to it.
LOCAL = ("unix://", "fd://")
SOURCE = "Docker documentation, Protect the Docker daemon socket; dockerd --help"


def listens_locally(context: Context) -> Iterator[Violation]:
    """Yield each address of a network on which the daemon would listen."""
    hosts = known(context.var(VARIABLE) or {}, "hosts", absent=[])
    for host in hosts if isinstance(hosts, list) else [hosts]:
        if not str(host).startswith(LOCAL):
            yield Violation(f"{VARIABLE}.hosts has {host!r}")


def empty(option: str) -> Callable[[Context], Iterator[Violation]]:
    """Return a judge that yields what an option of the daemon lists."""

    def judge(context: Context) -> Iterator[Violation]:
        if listed := known(context.var(VARIABLE) or {}, option, absent=[]):
            yield Violation(f"{VARIABLE}.{option} has {listed!r}")

    return judge


RULES = (
    Rule(
        name="daemon-listens-locally",
        holds="The Docker daemon listens on no network.",
        reason="whoever reaches that port is root on the machine",
        remedy="leave hosts out; who may log in reaches the daemon over SSH, with a context of `docker context create`",
        source=SOURCE,
        kinds=("Host",),
        judge=listens_locally,
    ),
    Rule(
        name="registries-proved",
        holds="Images come only from registries whose certificate is verified.",
        reason="whoever stands between the machine and the registry chooses the image",
        remedy="leave insecure-registries out; docker_registry_certificates takes the authority of a private registry",
        source=SOURCE,
        kinds=("Host",),
        judge=empty("insecure-registries"),
    ),
    Rule(
        name="no-daemon-plugins",
        holds="No plugin decides what the Docker daemon does.",
        reason="it sees each request, and may let one pass or stop the replicas",
        remedy="leave authorization-plugins out",
        source=SOURCE,
        kinds=("Host",),
        judge=empty("authorization-plugins"),
    ),
)
