"""The resources of the lab's plugin: Site (the network and the stand-ins for the internet), Machine (one node), Cluster (Kubernetes).

They only map properties; lab.site, lab.machine and lab.kubernetes.cluster do the work. Used by the servicer of fleet.provider.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from fleet import errors
from fleet.impact.effects import Effect
from fleet.provider import base
from fleet.provider.base import BaseResource, Request
from fleet.provider.properties import Props
from lab import commands, machine, site
from lab.kubernetes import cluster


class Site(BaseResource):
    """A lab: its network, its site, its keys. A delete removes everything with the lab's label."""

    computed: Collection[str] = ("network", "subnet", "gateway", "address", "vars", "identity")
    replace: Collection[str] = ("name", "sealed")

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Require a name, which containers, volumes and the network get. The stack file's validation checks its form."""
        return {} if inputs.get("name") else {"name": "is required"}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Report that other systems need other images. The site stays."""
        return [Effect("none", (), ("missing images are built",))]

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Create the site. An existing one keeps its keys and its pushed images."""
        if old and site.exists(inputs["name"]):
            return {**old, **inputs}
        with _progress(request, "make the lab's site"):
            name, sealed = inputs["name"], bool(inputs.get("sealed"))
            return {**inputs, **site.create(name, inputs["systems"], folder(name), sealed)}

    def read(self, request: Request, properties: Props) -> Props | None:
        """Return the properties, or None when the site is gone."""
        return properties if site.exists(properties["name"]) else None

    def delete(self, request: Request, properties: Props) -> None:
        """Remove everything of the lab."""
        with _progress(request, "remove the lab"):
            site.remove(properties["name"], folder(properties["name"]))


class Machine(BaseResource):
    """A node of a lab."""

    computed: Collection[str] = ("address", "port", "user", "identity", "host_key")
    replace: Collection[str] = ("site", "name", "system", "gpus")

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Accept any inputs: the stack file's validation has checked them."""
        return {}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return none: every change replaces the node."""
        return []

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Create the node. The resource Node waits until it answers."""
        with _progress(request, f"make the node {inputs['name']}"):
            lab = inputs["site"]
            return {**inputs, **machine.create(lab, inputs["name"], inputs["system"], inputs["gpus"], folder(lab))}

    def read(self, request: Request, properties: Props) -> Props | None:
        """Return the properties, or None when the container is gone."""
        return properties if machine.exists(properties["site"], properties["name"]) else None

    def delete(self, request: Request, properties: Props) -> None:
        """Remove the container and its volumes."""
        with _progress(request, f"remove the node {properties['name']}"):
            machine.remove(properties["site"], properties["name"])


class Cluster(BaseResource):
    """A lab with a Kubernetes cluster in place of machines. A delete removes everything with the lab's label."""

    computed: Collection[str] = ("kubeconfig", "context", "address", "image", "authority", "render_group")
    replace: Collection[str] = ("name", "gpus")

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Require a name and nodes with other names than those of the control plane and the site."""
        mistakes = {} if inputs.get("name") else {"name": "is required"}
        taken = [name for name in inputs.get("gpus") or {} if name in (cluster.CONTROL_PLANE, "site")]
        if taken or not inputs.get("gpus"):
            mistakes["gpus"] = f"{taken[0]} is the lab's own name" if taken else "has no node"
        return mistakes

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return none: every change replaces the cluster."""
        return []

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Create the site and the cluster. After a failure the state has the inputs, so that a delete removes what there is of it."""
        gpus = {name: int(count) for name, count in inputs["gpus"].items()}
        try:
            with _progress(request, "make the lab's cluster"):
                return {**inputs, **cluster.create(inputs["name"], gpus, folder(inputs["name"]))}
        except errors.FleetError as error:
            raise base.InitFailed({**inputs, **dict.fromkeys(self.computed, "")}, error) from None

    def read(self, request: Request, properties: Props) -> Props | None:
        """Return the properties, or None when a container is gone."""
        return properties if cluster.exists(properties["name"], properties["gpus"]) else None

    def delete(self, request: Request, properties: Props) -> None:
        """Remove everything of the lab."""
        with _progress(request, "remove the lab's cluster"):
            cluster.remove(properties["name"], folder(properties["name"]))


def folder(lab: str) -> Path:
    """Return the folder of a lab's keys: beside the stack's state, so that two clones do not share them."""
    return base.state_dir() / "lab" / lab


@contextlib.contextmanager
def _progress(request: Request, doing: str) -> Iterator[None]:
    """Show the lab's progress beside the resource, and turn a LabError into a FleetError."""
    with commands.listener(lambda text: request.report(text, False)):
        try:
            yield
        except commands.LabError as error:
            seen, _, after = str(error).partition("\n  next:   ")
            seen, _, wanted = seen.partition("\n  wanted: ")
            raise errors.FleetError(node=request.name, doing=doing, seen=seen, wanted=wanted, next=after) from None
