"""Machines of the lab: containers that behave like bare nodes, and the site they stand in (mirrors, registry, git, hub).

Knows the lab's plugin by its tokens and output names alone; imports nothing of it. Used by stacks whose source is `lab`.
"""

from collections.abc import Mapping
from typing import Any

import pulumi

from fleet.resources import Machine
from fleet.sources.lab.form import Nodes
from fleet.sources.request import Request


class Site(pulumi.CustomResource):
    """The lab's network and its mirrors. Owns: one container, its volumes, the network, the keys. Not: the machines."""

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
    """One lab node: a container with systemd, sshd and its own engine. Not: anything that a role puts on it."""

    address: pulumi.Output[str]
    port: pulumi.Output[int]
    user: pulumi.Output[str]
    identity: pulumi.Output[str]
    host_key: pulumi.Output[str]

    def __init__(self, name: str, site: Site, system: str, gpus: int) -> None:
        known_after = dict.fromkeys(("address", "port", "user", "identity", "host_key"))
        inputs = {"site": site.name, "name": name, "system": system, "gpus": gpus}
        super().__init__("lab:index:Machine", name, {**inputs, **known_after}, pulumi.ResourceOptions(parent=site))


def supply(nodes: Nodes, request: Request) -> Mapping[str, Machine]:
    """Make the site and its machines; the site's `vars` hold what nobody can know before: keys, CA, image digest."""
    wishes = {name: nodes.machines[name] for name in request.present}
    site = Site(nodes.name or request.stack, sorted({machine.system for machine in wishes.values()}), nodes.sealed)
    made = {name: LabMachine(name, site, wish.system, wish.gpus) for name, wish in wishes.items()}
    return {
        name: Machine(
            {
                "address": made[name].address,
                "port": made[name].port,
                "user": made[name].user,
                "identity": made[name].identity,
                "host_key": made[name].host_key,
                "become": False,
                "gpus": wish.gpus,
            },
            made[name],
            vars=site.vars,
        )
        for name, wish in wishes.items()
    }
