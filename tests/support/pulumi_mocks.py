"""Runs the node sources against Pulumi's mocks and each SDK's own classes: resources with their options, and machines.

Opens no connection. Called by tests/unit/test_sources_*.py.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.runtime import mocks as mocks_module
from pulumi.runtime import rpc
from pulumi.runtime import settings as runtime

from fleet.program import machines as supply_machines
from fleet.resources import Machine
from fleet.stack import settings
from tests.support.source_table import SOURCES

FILE = "stacks/Pulumi.prod.yaml"
# The mark of a secret among the inputs that the Pulumi engine gets.
SECRET = "4dabf18193072939515e22adb298388d"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nof {name}\n-----END OPENSSH PRIVATE KEY-----\n"
PORTS = {
    **{"gateway_port": 443, "gateway_challenge_port": 80, "gateway_node_port": 8443, "gateway_peers_port": 8444},
    **{
        "weights_port": 8445,
        "weights_from_neighbours": False,
        "weights_repository": "lab/model",
        "weights_revision": "0" * 40,
    },
}
BMC = {"glm-fleet:redfish_username": "admin", "glm-fleet:redfish_password": "of the BMCs"}


def public(name: str) -> str:
    """Return the public half of a machine's stand-in host key."""
    return f"ssh-ed25519 AAAA{name}"


@dataclass
class Declared:
    """One resource: its inputs as the Pulumi engine gets them (with marks at secrets), and the request that registered it."""

    inputs: dict[str, Any]
    request: Any

    @property
    def protected(self) -> bool:
        return bool(self.request.protect)

    @property
    def ignored(self) -> list[str]:
        return sorted(self.request.ignoreChanges)

    @property
    def after(self) -> list[str]:
        """The resources that it depends on: TYPE::NAME."""
        return [urn.split("::", 2)[2].rpartition(":")[2] for urn in self.request.dependencies]


@dataclass
class Supplied:
    """A source's resources by (type's last part, name), and the inputs of Node by machine."""

    resources: dict[tuple[str, str], Declared] = field(default_factory=dict)
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    secret: dict[str, set[str]] = field(default_factory=dict)  # which inputs of Node are secrets
    inside: dict[str, tuple[str, str, bool]] = field(
        default_factory=dict
    )  # the private network, the address there, whether there is no other
    by_machine: Mapping[str, Machine] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    hooks: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, Declared]:
        """Return the resources of one kind by name, sorted: independent ones register in any order."""
        return {
            name: self.resources[type_name, name] for type_name, name in sorted(self.resources) if type_name == kind
        }


class Cloud(pulumi.runtime.Mocks):
    """A cloud that creates every resource. `changed` are outputs that differ from the inputs, by kind."""

    def __init__(self, changed: Mapping[str, Mapping[str, Any]]) -> None:
        self.changed = changed
        self.calls: list[str] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        all_outputs = {kind: values for source in SOURCES.values() for kind, values in source.outputs.items()}
        outputs = all_outputs.get(args.typ, {})
        if args.typ == "fleet:index:HostKey":
            final = {"public": f"{public(args.name)}final", "private": PRIVATE.format(name=f"final-{args.name}")}
            outputs = {"public": public(args.name), "private": PRIVATE.format(name=args.name), "final": final}
        return str(outputs.get("id", f"{args.name}-id")), {
            **args.inputs,
            **outputs,
            **self.changed.get(args.typ.rpartition(":")[2], {}),
        }

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        self.calls.append(args.token)
        return {}


class Monitor(mocks_module.MockMonitor):
    """Records every registration with all of its options; accepts hooks and runs none."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.registrations: dict[tuple[str, str], Declared] = {}

    def RegisterResource(self, request: Any) -> Any:
        inputs = rpc.deserialize_properties(request.object)
        self.registrations[request.type.rpartition(":")[2], request.name] = Declared(inputs, request)
        return super().RegisterResource(request)


class Hooks:
    """Records the hooks of resources, by name, and runs none."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Any] = {}

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        self.callbacks[hook.name] = hook.callback

    def register_error_hook(self, hook: pulumi.ErrorHook) -> None:
        self.callbacks[hook.name] = hook.callback


def supply(
    nodes: Any,
    *,
    release: Mapping[str, str] | None = None,
    changed: Mapping[str, Mapping[str, Any]] | None = None,
    config: Mapping[str, str] | None = None,
    gateway: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] = PORTS,
) -> Supplied:
    """Run the sources of a stack with these `nodes`, the keys of its `gateway` and the role variables of each machine."""
    stack_settings = settings.read({"nodes": nodes, "release": dict(release or {}), "gateway": gateway}, FILE)
    cloud = Cloud(changed or {})
    monitor = Monitor(cloud)
    pulumi.runtime.set_mocks(cloud, project="glm-fleet", stack="prod", preview=False, monitor=monitor)
    secrets = {**BMC, **(config or {})}
    pulumi.runtime.set_all_config(secrets, list(secrets))
    hooks = Hooks()
    runtime.SETTINGS.callbacks = hooks  # type: ignore[assignment]
    supplied = Supplied(monitor.registrations, calls=cloud.calls, hooks=hooks.callbacks)

    async def resolved(value: Any) -> tuple[Any, bool]:
        if not isinstance(value, pulumi.Output):
            return value, False
        return await value.future(), await value.is_secret()

    async def look() -> None:
        for name, machine in supplied.by_machine.items():
            pairs = {key: await resolved(value) for key, value in machine.inputs.items()}
            supplied.machines[name] = {key: value for key, (value, _) in pairs.items()}
            supplied.secret[name] = {key for key, (_, secret) in pairs.items() if secret}
            if machine.inside:
                address, _ = await resolved(machine.inside.address)
                supplied.inside[name] = (machine.inside.network, address, machine.inside.only)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[None]:
        fleet = pulumi.ProviderResource("fleet", "fleet", {})
        of_machines = dict.fromkeys(stack_settings.present, variables)
        supplied.by_machine = supply_machines.supply(stack_settings, of_machines, "prod", fleet)
        return pulumi.Output.from_input(asyncio.ensure_future(look()))

    program()
    return supplied
