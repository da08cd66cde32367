"""The Pulumi classes of the road: Node, Host, Image, Weights, Serving; HostKey and BareMetal, of which some sources have need. Inputs and outputs only; behaviour is in fleet/provider.

Used by `__main__.py`. Each Ansible resource gets its node's connection, the files of its roles by digest, and the
variables that these roles know: whatever can change the machine stands in its inputs, so nothing changed means no run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi


@dataclass(frozen=True)
class Machine:
    """One machine as the resource Node wants it.

    `inputs` holds address, port, user, identity, host_key, final_key (the key that it gets in the place of host_key; optional), become,
    gpus, bastion (the same of the machine before it; optional), wait (seconds until it must have answered; optional) and install (which installation of it this is; optional); each may be a value
    or an Output.
    `place` says where it stands (rack, zone, internal_address), for those who route requests.
    `vars` are role variables that only the source can know; the stack's own are laid over them.
    `resource` is what stands behind the machine, when the source made it: the machine's other resources wait for it,
    and need no clean-up of their own when it is deleted.
    """

    inputs: Mapping[str, Any]
    resource: pulumi.Resource | None = None
    place: Mapping[str, str] = field(default_factory=dict)
    vars: pulumi.Input[Mapping[str, Any]] = field(default_factory=dict)


Inputs = Mapping[str, Any]


class HostKey(pulumi.CustomResource):
    """The SSH host keys of a machine that its source is to make: with the first its first connection is checked already.

    Owns: the pairs, in the state alone; `private` and `final` are secrets. Not: bringing them to the machine: the first is its source's, the
    second, `final`, is Node's.
    """

    public: pulumi.Output[str]
    private: pulumi.Output[str]
    final: pulumi.Output[Mapping[str, str] | None]

    def __init__(self, name: str, provider: pulumi.ProviderResource, protect: bool = False) -> None:
        super().__init__(
            "fleet:index:HostKey",
            name,
            {"name": name, "public": None, "private": None, "final": None},
            pulumi.ResourceOptions(provider=provider, protect=protect, additional_secret_outputs=["private", "final"]),
        )


class BareMetal(pulumi.CustomResource):
    """One machine behind a BMC, looked at over Redfish; with `reinstall` it is installed, once for each nonce.

    Owns: the installation. Not: what is put on it later. Deleting it touches nothing: it is neither wiped nor switched off.
    `protect`: Pulumi refuses to replace it, which another nonce does.
    """

    address: pulumi.Output[str]
    installed: pulumi.Output[str]  # the nonce of the installation that it bears
    power: pulumi.Output[str]
    differences: pulumi.Output[Sequence[Mapping[str, str]]]  # of its BIOS settings

    def __init__(self, name: str, inputs: Inputs, provider: pulumi.ProviderResource, protect: bool) -> None:
        known_after = dict.fromkeys(("installed", "attempt", "power", "settings", "differences"))
        secret = ["username", "password", "private"]
        super().__init__(
            "fleet:index:BareMetal",
            name,
            {**known_after, "name": name, **inputs},
            pulumi.ResourceOptions(provider=provider, protect=protect, additional_secret_outputs=secret),
        )


class Node(pulumi.CustomResource):
    """One machine that answers SSH with its pinned key, can become what the plan wants, and is marked as this stack's.

    Owns: the connection, and the mark; delete takes that off. Not: the machine (its source has made it) nor anything else on it.
    `protect`: Pulumi refuses to delete or replace it, and what stands on it, less its Image.
    """

    connection: pulumi.Output[Mapping[str, Any]]
    facts: pulumi.Output[Mapping[str, Any]]

    def __init__(
        self, name: str, machine: Machine, wants: str, provider: pulumi.ProviderResource, protect: bool
    ) -> None:
        self.machine = machine.resource
        super().__init__(
            "fleet:index:Node",
            name,
            {"name": name, **machine.inputs, "wants": wants, "connection": None, "facts": None},
            pulumi.ResourceOptions(
                provider=provider,
                deleted_with=machine.resource,
                replace_with=_with(machine.resource),
                protect=protect,
            ),
        )


def _with(machine: pulumi.Resource | None) -> list[pulumi.Resource] | None:
    """What is made anew with its machine: the new one may have the address and the host key of the one before it."""
    return [machine] if machine else None


class _Run(pulumi.CustomResource):
    """One Ansible run of one playbook on one node, and what it left there. Delete takes that off again.

    Outputs of each: `seconds` by role. In the state alone, for each output costs a fleet of 1,000 machines megabytes: `managed` (the
    files, units, packages … as they should be), `drift` (how a refresh found them different), `log` (path of the run's own log).
    """

    seconds: pulumi.Output[Mapping[str, float]]

    def __init__(
        self,
        name: str,
        node: Node,
        inputs: Inputs,
        outputs: Sequence[str],
        after: Sequence[pulumi.Resource] = (),
        secret: Sequence[str] = (),
        protect: bool | None = None,
    ) -> None:
        known_after = dict.fromkeys(("seconds", *outputs))
        super().__init__(
            f"fleet:index:{type(self).__name__}",
            name,
            {**known_after, "node": node.connection, **inputs},
            pulumi.ResourceOptions(
                parent=node,
                depends_on=list(after),
                deleted_with=node.machine,
                replace_with=_with(node.machine),
                additional_secret_outputs=list(secret),
                protect=protect,  # None: as the node is
            ),
        )


class Host(_Run):
    """A machine that can run GPU containers: kernel arguments, engine, driver, all GPUs back (roles host, docker, rocm).

    Owns: the operating system's settings. Not: images, weights or the service.
    """

    gpus: pulumi.Output[int]
    driver: pulumi.Output[str]
    engine: pulumi.Output[str]  # which start of the container engine this is: another one has taken the replicas down

    def __init__(self, name: str, node: Node, inputs: Inputs) -> None:
        super().__init__(name, node, inputs, ("gpus", "driver", "engine"))


class Image(_Run):
    """The serving image: a base by digest with a source build of transformers at a pinned commit (role transformers).

    Owns: the build, and its push when the stack names a registry: then one Image serves all nodes. Not: pulling it on
    the nodes that serve. Never protected: which machine builds is a setting, and what it built is in the registry.
    """

    image: pulumi.Output[str]
    commit: pulumi.Output[str]
    version: pulumi.Output[str]
    recipe: pulumi.Output[str]  # what it was built by: of the same recipe a registry may not give another image

    def __init__(self, name: str, host: Host, node: Node, inputs: Inputs) -> None:
        super().__init__(name, node, inputs, ("image", "commit", "version", "recipe"), after=[host], protect=False)


class Weights(_Run):
    """The model's files at a pinned revision, verified against their manifest (role weights).

    Owns: the folder of that revision. Not: which replica uses it.
    """

    path: pulumi.Output[str]
    revision: pulumi.Output[str]
    bytes: pulumi.Output[int]
    files: pulumi.Output[int]
    manifest: pulumi.Output[str]

    def __init__(self, name: str, host: Host, node: Node, inputs: Inputs) -> None:
        outputs = ("path", "revision", "bytes", "files", "manifest")
        super().__init__(name, node, inputs, outputs, after=[host], secret=["token"])


class Serving(_Run):
    """vLLM's replicas under systemd (role vllm), ready when the probes pass: when they see what is in the pictures.

    Owns: units, key and config files, containers. Not: the image and the weights that it is given.
    """

    replicas: pulumi.Output[Sequence[Mapping[str, Any]]]
    verdict: pulumi.Output[Mapping[str, Any]]

    def __init__(self, name: str, image: Image, weights: Weights, node: Node, inputs: Inputs) -> None:
        super().__init__(name, node, inputs, ("replicas", "verdict"), after=[image, weights], secret=["api_key"])
