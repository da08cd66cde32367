"""Creates the lab: containers that behave like bare nodes, and their site (mirrors, registry, git, hub).

Uses the lab's plugin through Pulumi, by its type tokens and output names; imports nothing of it. Called by fleet.program.machines for stacks
whose source is `lab`.
"""

from collections.abc import Mapping
from typing import Any

import pulumi

from fleet.resources import Machine
from fleet.sources.lab.form import Nodes
from fleet.sources.request import Request

CONNECTION = ("address", "port", "user", "identity", "host_key")


class Site(pulumi.CustomResource):
    """The lab's network and its mirrors: one container, its volumes, the network, the keys. Not: the machines."""

    name: pulumi.Output[str]
    vars: pulumi.Output[Mapping[str, Any]]

    def __init__(self, name: str, systems: list[str], sealed: bool) -> None:
        known_after = dict.fromkeys(("network", "subnet", "gateway", "address", "vars", "identity"))
        super().__init__(
            "lab:index:Site",
            name,
            {"name": name, "systems": systems, **({"sealed": True} if sealed else {}), **known_after},
        )


class LabMachine(pulumi.CustomResource):
    """One lab node: a container with systemd, sshd and its own Docker daemon. Not: anything that a role adds."""

    address: pulumi.Output[str]
    port: pulumi.Output[int]
    user: pulumi.Output[str]
    identity: pulumi.Output[str]
    host_key: pulumi.Output[str]

    def __init__(self, name: str, site: Site, system: str, gpus: int) -> None:
        known_after = dict.fromkeys(CONNECTION)
        inputs = {"site": site.name, "name": name, "system": system, "gpus": gpus}
        super().__init__("lab:index:Machine", name, {**inputs, **known_after}, pulumi.ResourceOptions(parent=site))


def supply(nodes: Nodes, request: Request) -> Mapping[str, Machine]:
    """Create the site and its machines; the site's `vars` hold what only it knows: keys, CA, image digest."""
    members = {name: nodes.machines[name] for name in request.present}
    site = Site(nodes.name or request.stack, sorted({member.system for member in members.values()}), nodes.sealed)
    containers = {name: LabMachine(name, site, member.system, member.gpus) for name, member in members.items()}
    return {
        name: Machine(
            {
                **{key: getattr(container, key) for key in CONNECTION},
                "become": False,
                "gpus": members[name].gpus,
            },
            container,
            vars=site.vars,
        )
        for name, container in containers.items()
    }
