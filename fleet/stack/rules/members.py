"""Rules about machines that become a Kubernetes cluster: what its members run is pinned, and its networks are apart."""

import ipaddress
import itertools
from collections.abc import Iterator
from typing import Any

from fleet.stack.rules.pins import IMAGE, NAMED_IMAGE, PIN
from fleet.stack.rules.rule import MachinePlan, StackFinding, at_key, rule

# Images that pods of the system run on each member, some of them as root of the machine.
IMAGES = ("kubernetes_network_image", "kubernetes_device_plugin_image", "kubernetes_labeller_image")
NETWORKS = ("kubernetes_pod_network", "kubernetes_service_network")


@rule(
    reason="a tag can name another image tomorrow, and these run as root on every member",
    source="roles/kubernetes/templates: network engine and labeller are privileged",
)
def member_images(plan: MachinePlan) -> Iterator[StackFinding]:
    """The images of network engine, device plugin and labeller are named by digest."""
    own = {name: plan.values.get(name) for name in IMAGES if plan.member}
    if plan.values.get("kubernetes_network_manifest"):
        del own["kubernetes_network_image"]
    for name, image in own.items():
        if image and not IMAGE.match(str(image)):
            yield at_key(name, "an image without digest", NAMED_IMAGE, image, PIN)
    images = plan.values.get("kubernetes_network_images")
    for name, image in images.items() if plan.member and isinstance(images, dict) else ():
        if not IMAGE.match(str(image)):
            yield at_key(f"kubernetes_network_images.{name}", "an image without digest", NAMED_IMAGE, image)


@rule(
    reason="a URL can serve another file tomorrow, and its objects may do everything in the cluster",
    source="roles/kubernetes/files/apply.py compares the sum before it applies the file",
)
def member_manifest(plan: MachinePlan) -> Iterator[StackFinding]:
    """A network engine of the stack's own is a manifest with its SHA-256."""
    if (
        plan.member
        and plan.values.get("kubernetes_network_manifest")
        and not plan.values.get("kubernetes_network_sha256")
    ):
        wanted = "the sum of the file that you have read: `curl -fsSL URL | sha256sum`"
        yield at_key("kubernetes_network_sha256", "this variable is missing", wanted)


@rule(
    reason="an address that is both a pod's and a service's reaches only one of them",
    source="Kubernetes documentation, Cluster Networking: the ranges of pods, services and nodes do not overlap",
)
def member_networks(plan: MachinePlan) -> Iterator[StackFinding]:
    """The networks of pods and of services do not overlap, and each is written as ADDRESS/BITS."""
    read = {name: _network(plan.values.get(name)) for name in NETWORKS if plan.member}
    for name, network in read.items():
        if network is None:
            yield at_key(name, "no network", "ADDRESS/BITS, e.g. 10.244.0.0/16", plan.values.get(name))
    for (_, one), (name, other) in itertools.combinations(read.items(), 2):
        if one is not None and other is not None and one.overlaps(other):
            yield at_key(name, f"overlaps {one}, the pods' network", "a network that nothing else has", str(other))


@rule(
    reason="pods get no GPU of a Node that offers none",
    source="Kubernetes documentation, Device Plugins: a kubelet offers only what a plugin has registered",
    level="warning",
)
def member_gpus(plan: MachinePlan) -> Iterator[StackFinding]:
    """A member with GPUs has AMD's device plugin and labeller from this stack, or from something else."""
    for name in IMAGES[1:] if plan.member and plan.gpus else ():
        if not plan.values.get(name):
            yield at_key(
                name,
                "this variable is empty",
                "AMD's image by digest; or AMD's GPU operator in the cluster, with driver.enable=false",
            )


@rule(
    reason="no role can guess it: without the key apt takes packages of anybody",
    source="roles/kubernetes/tasks/preflight.yml: the run stops without the key that the fingerprint names",
)
def member_key(plan: MachinePlan) -> Iterator[StackFinding]:
    """The stack has the key of Kubernetes' package repository."""
    if plan.member and not plan.values.get("kubernetes_repository_key"):
        wanted = "the key, armoured: Release.key of kubernetes_repository_url, with the fingerprint kubernetes_key_fingerprint"
        yield at_key("kubernetes_repository_key", "this variable is missing", wanted)


def _network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(str(value))
    except ValueError:
        return None
