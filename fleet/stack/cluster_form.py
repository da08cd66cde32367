"""The form of the stack file's key `cluster`: machines of `nodes` that become one Kubernetes cluster, and the mistakes around it.

Pure. Part of the form in `settings`. The models are in another stack then, with the key `kubernetes`. Called by fleet.program and fleet.cli.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from fleet import errors
from fleet.schema import Form, Name
from fleet.stack.gateway_form import host_name

MISSING = {
    "cluster.control_planes": "the machines of the control plane: one, or three of which one may fail, e.g. [cp-1, cp-2, cp-3]",
}
# Roles of models and of proxies before them: nothing of both is on a member.
ELSEWHERE = ("docker", "transformers", "weights", "vllm", "gateway")
# Keys about models on machines → what stands in their place.
KEYS = {
    "kubernetes": "a stack of its own: this one makes the cluster, that one puts models there",
    "gateway": "`kubernetes.endpoint` of the stack with the models",
    "clients": "clients of their own in what is before the models",
    "drill": "leave it out: `fleet drill` rebuilds a machine that serves models itself",
    "acceptance": "`fleet accept` before the machines become a cluster",
}


class OwnCluster(Form):
    """The machines of a stack as one Kubernetes cluster. `control_planes` are one, three or more, an odd number; all others are workers.

    `endpoint` is the DNS name of the API servers, with an address of each control plane, or of what is before them. With one control plane
    its address stands in its place; more can then not join later.
    """

    control_planes: list[Name] = Field(min_length=1)
    endpoint: Annotated[str, AfterValidator(host_name)] | None = None

    @property
    def first(self) -> str:
        """The control plane that makes the cluster, and that is asked for tokens."""
        return self.control_planes[0]

    def order(self, machines: Sequence[str]) -> list[str]:
        """Return the machines in the order in which they become members, and are upgraded: the control planes, then the workers."""
        return [*self.control_planes, *(name for name in machines if name not in self.control_planes)]

    def part(self, machine: str) -> str:
        """Return what a machine is: `first`, `control-plane` or `worker`, as in kubernetes_part."""
        if machine == self.first:
            return "first"
        return "control-plane" if machine in self.control_planes else "worker"


def mistakes(
    cluster: OwnCluster, raw: Mapping[str, Any], names: Sequence[str], present: Sequence[str], file: str
) -> Iterator[errors.SettingsError]:
    """Yield the mistakes between `cluster`, the machines and other keys of the stack file, in `raw`: `present` machines are not absent."""
    for key, allowed in KEYS.items():
        if raw.get(key):
            yield errors.SettingsError(file=file, key=key, seen="has no meaning beside `cluster`", allowed=allowed)
    planes, key = cluster.control_planes, "cluster.control_planes"
    for place, name in enumerate(planes):
        at = f"{key}[{place}]"
        if name in planes[:place]:
            yield errors.SettingsError(
                file=file, key=at, value=name, seen="is there twice", allowed="each machine once"
            )
        elif name not in names:
            nearest, allowed = errors.nearest(name, names), ", ".join(names)
            seen = "no machine has this name"
            yield errors.SettingsError(file=file, key=at, value=name, seen=seen, allowed=allowed, nearest=nearest)
        elif name not in present:
            allowed = f"a machine that is not absent: {', '.join(present)}"
            yield errors.SettingsError(file=file, key=at, value=name, seen="is absent", allowed=allowed)
    if len(planes) % 2 == 0:
        seen = f"has {len(planes)} machines: etcd stops where half of them are gone, so one of them is of no use"
        yield errors.SettingsError(file=file, key=key, seen=seen, allowed="one, three or five")
    if len(planes) > 1 and cluster.endpoint is None:
        allowed = "the DNS name with an address of each control plane, e.g. api.example.com: a member knows one place"
        yield errors.SettingsError(file=file, key="cluster.endpoint", seen="this key is missing", allowed=allowed)


def variable_mistakes(
    values: Mapping[str, Any], roles: Mapping[str, str], file: str, key: str
) -> Iterator[errors.SettingsError]:
    """Yield each role variable of models and proxies at `key`; `roles` has the role of each variable."""
    for name in values:
        if roles.get(name) in ELSEWHERE:
            seen = f"the role {roles[name]} does not run on a member of the cluster"
            allowed = "the stack with `kubernetes`, which puts models there; containerd's variables are kubernetes_*"
            yield errors.SettingsError(file=file, key=f"{key}.{name}", seen=seen, allowed=allowed)


def warnings(cluster: OwnCluster, file: str) -> Iterator[errors.SettingsError]:
    """Yield a control plane that is alone, and one that can never get others."""
    if len(cluster.control_planes) == 1:
        seen = f"{cluster.first} is the only control plane: without it pods run on, and nothing is scheduled or changed"
        later = "" if cluster.endpoint else "; at least `endpoint`, without which others can never join"
        yield errors.SettingsError(
            file=file, key="cluster.control_planes", seen=seen, allowed=f"three, of which one may fail{later}"
        )
