"""Declares machines with a BMC: read over Redfish, and installed once for each nonce, with a host key of ours.

Needs the stack's secrets redfish_username and redfish_password. fleet/provider/baremetal.py does the installation. Called by
fleet.program.machines for stacks whose source is `redfish`.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any

import pulumi

from fleet import errors
from fleet.resources import BareMetal, HostKey, Machine
from fleet.sources.redfish.form import BARE, Nodes
from fleet.sources.request import Request


def supply(nodes: Nodes, request: Request) -> Mapping[str, Machine]:
    """Return the present machines. Raises FleetError where a Python package is missing."""
    if missing := [package for package in ("sushy", "pycdlib") if not importlib.util.find_spec(package)]:
        raise errors.FleetError(
            node="source redfish",
            doing="look for what it needs",
            seen=f"the Python package {missing[0]} is not installed",
            wanted="the packages of requirements/redfish.txt",
            next="`make python`: it installs what the stack files name",
        )
    return {name: _machine(nodes, name, request.fleet, name in request.protected) for name in request.present}


def _machine(nodes: Nodes, name: str, fleet: pulumi.ProviderResource, protect: bool) -> Machine:
    config = pulumi.Config()
    connection, options = nodes.connection(name), nodes.options(name)
    inputs: dict[str, Any] = {
        **{key: value for key, value in options.items() if key in BARE},
        **{
            key: connection[key]
            for key in ("address", "port", "user", "identity", "bastion", "wait")
            if key in connection
        },
        "username": config.require_secret("redfish_username"),
        "password": config.require_secret("redfish_password"),
    }
    if "reinstall" in options:
        key = HostKey(name, fleet, protect)
        private: pulumi.Output[str] = pulumi.Output.secret(key.private)
        inputs |= {
            "host_key": key.public,
            "private": private,
            "final_public": key.final.apply(lambda final: final["public"] if final else None),
        }
        inputs |= {} if protect else {"released": True}
        connection |= {"host_key": key.public, "final_key": key.final}
    machine = BareMetal(name, inputs, fleet, protect)
    # An output of the machine, not the stack's text: so Node waits for the installation before it connects.
    connection["address"] = machine.address
    if "reinstall" in options:
        connection["install"] = machine.installed
    return Machine(connection, place=nodes.place(name))
