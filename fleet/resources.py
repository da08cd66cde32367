"""Pulumi classes: Node, Host, Image, Weights, Serving, Gateway, Member; Authority, Account; HostKey and BareMetal, which some sources need; Rollout.

Inputs and outputs only; behaviour is in fleet/provider. Used by `__main__.py`, fleet.program and fleet.sources. The inputs of an Ansible
resource are its node's connection, digests of its roles' files and the variables of these roles: without a change of them nothing runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi


@dataclass(frozen=True)
class Inside:
    """A machine's address in a private network of its source: machines with the same `network` reach it there.

    `only`: no interface of the machine has another address; the cloud translates its public one to this.
    """

    network: str
    address: pulumi.Input[str]
    only: bool = False


@dataclass(frozen=True)
class Machine:
    """One machine from a source, for the resource Node.

    `inputs` are address, port, user, identity, host_key, become, gpus and, optional: final_key (replaces host_key after the first
    connection), bastion (the same for a jump host), wait (seconds until it must answer), install (nonce of its installation). Each may be
    a value or an Output.
    `place` is its location (rack, zone, internal_address), for a gateway in front of the fleet; `inside` its private network, where the
    source made one.
    `vars` are role variables that only the source knows; the stack's own override them.
    `resource` is the source's resource that creates the machine, if there is one: the machine's other resources wait for it, and are not
    torn down one by one when it is deleted.
    """

    inputs: Mapping[str, Any]
    resource: pulumi.Resource | None = None
    place: Mapping[str, str] = field(default_factory=dict)
    vars: pulumi.Input[Mapping[str, Any]] = field(default_factory=dict)
    inside: Inside | None = None

    @property
    def internal_address(self) -> pulumi.Input[str]:
        """Its address for the other machines, outside of a private network: that of `place`, else that of SSH."""
        address: pulumi.Input[str] = self.place.get("internal_address") or self.inputs["address"]
        return address


Inputs = Mapping[str, Any]


class HostKey(pulumi.CustomResource):
    """The SSH host keys of a machine that its source creates: the first connection is verified against the first key.

    Owns: the key pairs, only in the state; `private` and `final` are secrets. Not: installing them on the machine, which the source does with
    the first, and Node with the second, `final`.
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
    """One machine with a BMC, read over Redfish; with `reinstall` it is installed, once for each nonce.

    Owns: the installation. Not: what is added later. Deleting it neither wipes the machine nor switches it off.
    `protect`: Pulumi refuses to replace it; a new nonce is a replacement.
    """

    address: pulumi.Output[str]
    installed: pulumi.Output[str]  # the nonce of its installation
    power: pulumi.Output[str]
    differences: pulumi.Output[Sequence[Mapping[str, str]]]  # of its BIOS settings

    def __init__(self, name: str, inputs: Inputs, provider: pulumi.ProviderResource, protect: bool) -> None:
        computed = dict.fromkeys(("installed", "attempt", "power", "settings", "differences"))
        secret = ["username", "password", "private"]
        super().__init__(
            "fleet:index:BareMetal",
            name,
            {**computed, "name": name, **inputs},
            pulumi.ResourceOptions(provider=provider, protect=protect, additional_secret_outputs=secret),
        )


class Authority(pulumi.CustomResource):
    """The stack's own certificate authority, one for all of its proxies.

    Owns: the authority's key, only in the state. Not: the certificates that it signs, which each Gateway has.
    """

    certificate: pulumi.Output[str]
    private: pulumi.Output[str]
    ends: pulumi.Output[str]  # the last day of the certificate

    def __init__(self, provider: pulumi.ProviderResource, protect: bool) -> None:
        super().__init__(
            "fleet:index:Authority",
            "authority",
            dict.fromkeys(("certificate", "private", "ends")),
            pulumi.ResourceOptions(provider=provider, protect=protect, additional_secret_outputs=["private"]),
        )


class Account(pulumi.CustomResource):
    """The key of the stack's account at an ACME server, one for all of its gateways: each can answer a challenge for another.

    Owns: the key, only in the state. Not: the account, which the gateways register, and their certificates.
    """

    private: pulumi.Output[str]
    thumbprint: pulumi.Output[str]  # of the key, which is the answer to a challenge

    def __init__(self, provider: pulumi.ProviderResource) -> None:
        super().__init__(
            "fleet:index:Account",
            "account",
            dict.fromkeys(("private", "thumbprint")),
            pulumi.ResourceOptions(provider=provider, additional_secret_outputs=["private"]),
        )


class Node(pulumi.CustomResource):
    """One machine that answers SSH with its pinned key, passes the preflight and is marked as this stack's.

    Owns: the connection, and the mark, which delete removes. Not: the machine (its source creates it) nor anything else on it.
    `protect`: Pulumi refuses to delete or replace it and the resources on it, except its Image.
    """

    connection: pulumi.Output[Mapping[str, Any]]
    facts: pulumi.Output[Mapping[str, Any]]

    def __init__(
        self, name: str, machine: Machine, requirements: str, provider: pulumi.ProviderResource, protect: bool
    ) -> None:
        self.machine = machine.resource
        super().__init__(
            "fleet:index:Node",
            name,
            {"name": name, **machine.inputs, "wants": requirements, "connection": None, "facts": None},
            pulumi.ResourceOptions(
                provider=provider,
                deleted_with=machine.resource,
                replace_with=_replace_with(machine.resource),
                protect=protect,
            ),
        )


def _replace_with(machine: pulumi.Resource | None) -> list[pulumi.Resource] | None:
    """Return the resource whose replacement replaces this one, too: a new machine may have the address and host key of the old one."""
    return [machine] if machine else None


class _Run(pulumi.CustomResource):
    """One Ansible run of one playbook on one node, and what it created there. Delete is its teardown.

    Output of each: `seconds` by role. Only in the state, because each output costs a fleet of 1,000 machines megabytes: `managed` (files,
    units, packages … with their expected values), `drift` (differences that a refresh found), `log` (path of the run's own log).
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
        computed = dict.fromkeys(("seconds", *outputs))
        super().__init__(
            f"fleet:index:{type(self).__name__}",
            name,
            {**computed, "node": node.connection, **inputs},
            pulumi.ResourceOptions(
                parent=node,
                depends_on=list(after),
                deleted_with=node.machine,
                replace_with=_replace_with(node.machine),
                additional_secret_outputs=list(secret),
                protect=protect,  # None: like the node
            ),
        )


class Host(_Run):
    """A machine that can run GPU containers: kernel arguments, Docker daemon, driver, all GPUs visible (roles host, docker, rocm).

    Owns: the operating system's settings. Not: images, weights or the service.
    """

    gpus: pulumi.Output[int]
    driver: pulumi.Output[str]
    engine: pulumi.Output[str]  # id of the Docker daemon's start: a new start has ended the replicas

    def __init__(self, name: str, node: Node, inputs: Inputs) -> None:
        super().__init__(name, node, inputs, ("gpus", "driver", "engine"))


class Image(_Run):
    """The serving image: a base by digest with a source build of transformers at a pinned commit (role transformers).

    Owns: the build, and its push if the stack names a registry: then one Image is for all nodes. Not: pulling it on
    the nodes that serve. Never protected: the machine that builds is a setting, and the image is in the registry.
    """

    image: pulumi.Output[str]
    commit: pulumi.Output[str]
    version: pulumi.Output[str]
    recipe: pulumi.Output[
        str
    ]  # digest of the build's inputs: the same recipe must not get another image from a registry

    def __init__(self, name: str, host: Host, node: Node, inputs: Inputs) -> None:
        super().__init__(name, node, inputs, ("image", "commit", "version", "recipe"), after=[host], protect=False)


class Weights(_Run):
    """The model's files at a pinned revision, verified against their manifest (role weights).

    Owns: the folder of that revision, and the source from which neighbours take it. Not: the choice of a replica's weights.
    """

    path: pulumi.Output[str]
    revision: pulumi.Output[str]
    bytes: pulumi.Output[int]
    files: pulumi.Output[int]
    manifest: pulumi.Output[str]
    ends: pulumi.Output[Mapping[str, str]]  # the last day of each certificate

    def __init__(self, name: str, host: Host, node: Node, inputs: Inputs) -> None:
        outputs = ("path", "revision", "bytes", "files", "manifest", "certificates", "ends")
        super().__init__(name, node, inputs, outputs, after=[host], secret=["token", "authority_key", "certificates"])


class Serving(_Run):
    """vLLM's replicas under systemd (role vllm), ready when the probes pass: their answers about the pictures are right.

    Owns: units, key and config files, containers. Not: its image and weights.
    """

    replicas: pulumi.Output[Sequence[Mapping[str, Any]]]
    verdict: pulumi.Output[Mapping[str, Any]]

    def __init__(self, name: str, image: Image, weights: Weights, node: Node, inputs: Inputs) -> None:
        super().__init__(name, node, inputs, ("replicas", "verdict"), after=[image, weights], secret=["api_key"])


class Member(_Run):
    """A host as a member of the stack's own Kubernetes cluster (role kubernetes), ready there with its GPUs.

    Owns: packages, container runtime, kubelet; of the first control plane also the cluster with its network and device plugin. Not: what runs
    in the cluster. `authority` is the certificate by which the cluster is known; no credentials are in the state.
    """

    part: pulumi.Output[str]
    version: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    authority: pulumi.Output[str]
    ends: pulumi.Output[str]
    node: pulumi.Output[Mapping[str, Any]]  # the connection of its machine, which those that join ask through

    def __init__(self, name: str, after: Sequence[pulumi.Resource], node: Node, inputs: Inputs) -> None:
        super().__init__(name, node, inputs, ("part", "version", "endpoint", "authority", "ends"), after=after)


class Rollout(pulumi.CustomResource):
    """The pods of one model on a cluster, at the newest template of their Deployment, ready when the probes pass.

    Owns: the wait for Kubernetes' own rollout, and the way back to the last good template after one that failed. Not: the Deployment.
    """

    pods: pulumi.Output[Sequence[Mapping[str, Any]]]
    verdict: pulumi.Output[Mapping[str, Any]]
    seconds: pulumi.Output[Mapping[str, float]]

    def __init__(
        self,
        name: str,
        deployment: pulumi.Resource,
        inputs: Inputs,
        provider: pulumi.ProviderResource,
        protect: bool = True,
    ) -> None:
        super().__init__(
            "fleet:index:Rollout",
            name,
            {**dict.fromkeys(("pods", "verdict", "seconds")), "name": name, **inputs},
            pulumi.ResourceOptions(
                provider=provider,
                depends_on=[deployment],
                deleted_with=deployment,
                protect=protect,
                additional_secret_outputs=["api_key"],
            ),
        )


class Gateway(_Run):
    """The proxies of a machine (role gateway): that of a node before its replicas, that for clients, or both.

    Owns: units, users, configuration, certificates and keys of the proxies. Not: the replicas, and the authority that signs.
    """

    ends: pulumi.Output[Mapping[str, str]]  # the last day of each certificate
    acme: pulumi.Output[Mapping[str, Any]]  # the certificate that clients get, where an ACME server should give it

    def __init__(self, name: str, after: _Run, node: Node, inputs: Inputs, protect: bool) -> None:
        outputs = ("version", "certificates", "ends", "acme")
        secret = ("authority_key", "inner_key", "gateway_key", "acme_key", "certificates")
        super().__init__(name, node, inputs, outputs, after=[after], secret=secret, protect=protect)
