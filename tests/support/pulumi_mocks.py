"""What the node sources declare, run against Pulumi's mocks and each SDK's own classes: resources with their options, and machines.

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
# How a secret looks among the inputs that the engine gets.
SECRET = "4dabf18193072939515e22adb298388d"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nof {name}\n-----END OPENSSH PRIVATE KEY-----\n"
BMC = {"glm-fleet:redfish_username": "admin", "glm-fleet:redfish_password": "of the BMCs"}


def public(name: str) -> str:
    """The public half of the host key that stands in for that of a machine."""
    return f"ssh-ed25519 AAAA{name}"


@dataclass
class Declared:
    """One resource: its inputs as the engine gets them (secrets are marked), and the request that registered it."""

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
        """The resources that are there before it: TYPE::NAME."""
        return [urn.split("::", 2)[2].rpartition(":")[2] for urn in self.request.dependencies]


@dataclass
class Supplied:
    """What a source has made: resources by (type's last part, name), and the inputs of Node by machine."""

    resources: dict[tuple[str, str], Declared] = field(default_factory=dict)
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    secret: dict[str, set[str]] = field(default_factory=dict)  # which inputs of Node are secrets
    made: Mapping[str, Machine] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    hooks: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, Declared]:
        """The resources of one kind by name, sorted: the engine hears of two that do not need each other in any order."""
        return {
            name: found for (told, name), found in sorted(self.resources.items(), key=lambda it: it[0]) if told == kind
        }


class Cloud(pulumi.runtime.Mocks):
    """A cloud that makes whatever it is asked for. `changed` are outputs that differ from what was asked for, by kind."""

    def __init__(self, changed: Mapping[str, Mapping[str, Any]]) -> None:
        self.changed = changed
        self.calls: list[str] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        outputs = {kind: given for source in SOURCES.values() for kind, given in source.outputs.items()}
        made = outputs.get(args.typ, {})
        if args.typ == "fleet:index:HostKey":
            final = {"public": f"{public(args.name)}final", "private": PRIVATE.format(name=f"final-{args.name}")}
            made = {"public": public(args.name), "private": PRIVATE.format(name=args.name), "final": final}
        return f"{args.name}-id", {**args.inputs, **made, **self.changed.get(args.typ.rpartition(":")[2], {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        self.calls.append(args.token)
        return {}


class Monitor(mocks_module.MockMonitor):
    """Notes every registration with all of its options; takes hooks and runs none."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.found: dict[tuple[str, str], Declared] = {}

    def RegisterResource(self, request: Any) -> Any:
        inputs = rpc.deserialize_properties(request.object)
        self.found[request.type.rpartition(":")[2], request.name] = Declared(inputs, request)
        return super().RegisterResource(request)


class Hooks:
    """Takes the hooks of resources, by name, and runs none."""

    def __init__(self) -> None:
        self.taken: dict[str, Any] = {}

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        self.taken[hook.name] = hook.callback

    def register_error_hook(self, hook: pulumi.ErrorHook) -> None:
        self.taken[hook.name] = hook.callback


def supply(
    told: Any,
    *,
    release: Mapping[str, str] | None = None,
    changed: Mapping[str, Mapping[str, Any]] | None = None,
    config: Mapping[str, str] | None = None,
) -> Supplied:
    """Run the sources of a stack whose `nodes` are `told`."""
    judged = settings.read({"nodes": told, "release": dict(release or {})}, FILE)
    cloud = Cloud(changed or {})
    monitor = Monitor(cloud)
    pulumi.runtime.set_mocks(cloud, project="glm-fleet", stack="prod", preview=False, monitor=monitor)
    secrets = {**BMC, **(config or {})}
    pulumi.runtime.set_all_config(secrets, list(secrets))
    hooks = Hooks()
    runtime.SETTINGS.callbacks = hooks  # type: ignore[assignment]
    supplied = Supplied(monitor.found, calls=cloud.calls, hooks=hooks.taken)

    async def resolved(value: Any) -> tuple[Any, bool]:
        if not isinstance(value, pulumi.Output):
            return value, False
        return await value.future(), await value.is_secret()

    async def look() -> None:
        for name, machine in supplied.made.items():
            pairs = {key: await resolved(value) for key, value in machine.inputs.items()}
            supplied.machines[name] = {key: value for key, (value, _) in pairs.items()}
            supplied.secret[name] = {key for key, (_, secret) in pairs.items() if secret}

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[None]:
        fleet = pulumi.ProviderResource("fleet", "fleet", {})
        supplied.made = supply_machines.supply(judged, "prod", fleet)
        return pulumi.Output.from_input(asyncio.ensure_future(look()))

    program()
    return supplied
