"""Mirrors: the role variables that they change, and the list of everything that a stack's machines fetch. Pure.

A mirror replaces the host in every URL of its kind and keeps the paths, so it is a plain copy. Called by `validate`, which applies it to the
variables, `requirements` and fleet.cli: `fleet mirrors` prints the list.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.stack import settings
from fleet.stack.rules import models

# Role variables that hold a URL, by the key of `mirrors:` that replaces their host.
URLS = {
    "rocm": ("rocm_repository_url", "rocm_driver_repository_url"),
    "docker": ("docker_repository_url",),
    "git": ("transformers_repository",),
    "hub": ("weights_endpoint",),
    "kubernetes": ("kubernetes_repository_url",),
}
# Those that begin with a registry's host; the last one may be that host alone.
IMAGES = (
    *("transformers_base_image", "kubernetes_network_image", "kubernetes_device_plugin_image"),
    *("kubernetes_labeller_image", "kubernetes_image_repository"),
)
# The package that makes a file system, by its type: roles/host/vars/main.yml, _host_makers.
MAKERS = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}
DISTRIBUTION = "the system's own sources"
# What kubeadm, kubelet and kubectl need of their repository, and what kubeadm pulls at the cluster's version.
KUBERNETES_PACKAGES = ("kubeadm", "kubelet", "kubectl", "kubernetes-cni")
KUBERNETES_IMAGES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
MEMBER_IMAGES = (
    *("kubernetes_pause_image", "kubernetes_network_image"),
    *("kubernetes_device_plugin_image", "kubernetes_labeller_image"),
)
SERVER, REGISTRY = re.compile(r"^\w+://[^/]+"), re.compile(r"^(?:[^/]+[.:][^/]*|localhost)/")


@dataclass(frozen=True)
class Item:
    """One thing to mirror: its kind, its name in a request, its size in bytes (0: unknown), its source."""

    kind: str
    name: str
    bytes: int
    source: str


def mirrored_variables(form: settings.Mirrors, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables that mirrors change, with their new values. `values` includes the roles' defaults."""
    mirrors = form.model_dump(exclude_none=True)
    urls = {
        name: SERVER.sub(mirrors[key].rstrip("/"), str(values.get(name) or ""))
        for key in URLS
        if key in mirrors
        for name in URLS[key]
    }
    images = {name: mirrored_image(form, str(values.get(name) or "")) for name in IMAGES}
    return {name: value for name, value in {**urls, **images}.items() if value and value != values.get(name)}


def items(values: Mapping[str, Any]) -> Iterator[Item]:
    """Yield everything that a machine with these variables fetches, in that order. `{{ name }}` in a URL is another variable."""
    tools, driver, docker = (
        filled_url(str(values.get(name) or ""), values) for name in (*URLS["rocm"], *URLS["docker"])
    )
    for package in values.get("docker_packages") or ():
        yield Item("package", package, 0, docker or DISTRIBUTION)
        if package.partition("=")[0] == "docker.io":
            yield Item("package", "docker-cli, on Debian 13", 0, docker or DISTRIBUTION)
    time_service = values.get("host_time_service")
    for package in (*(values.get("host_packages") or ()), *([time_service] if time_service else [])):
        yield Item("package", package, 0, DISTRIBUTION)
    for package in dict.fromkeys(MAKERS[disk["type"]] for disk in values.get("host_filesystems") or ()):
        yield Item("package", package, 0, DISTRIBUTION)
    if values.get("rocm_headers"):
        yield Item("package", "linux-headers-KERNEL, of the kernel that runs there", 0, DISTRIBUTION)
    for package in values.get("rocm_driver_packages") or ():
        version = values.get("rocm_driver_version")
        yield Item("package", f"{package} {version}" if version else package, 0, driver or tools)
    for package in values.get("rocm_packages") or ():
        yield Item("package", package, 0, tools)
    if values.get("kubernetes_version"):
        yield from _member_items(values)
    if image := str(values.get("transformers_base_image") or ""):
        yield Item("image", image, 0, image.partition("/")[0])
    if source := str(values.get("transformers_repository") or ""):
        yield Item("commit", str(values.get("transformers_commit") or "-"), 0, source)
    if repository := str(values.get("weights_repository") or ""):
        shape = models.shapes().get(repository)
        name, size = f"{repository}@{values.get('weights_revision') or '-'}", shape.weights if shape else 0
        yield Item("weights", name, size, str(values.get("weights_endpoint") or ""))


def _member_items(values: Mapping[str, Any]) -> Iterator[Item]:
    """Yield what a member of the stack's own cluster fetches."""
    version = str(values["kubernetes_version"])
    minor = {"_kubernetes_minor": version.rpartition(".")[0]}  # roles/kubernetes/vars
    source = filled_url(str(values.get("kubernetes_repository_url")), {**values, **minor})
    for package in KUBERNETES_PACKAGES:
        yield Item("package", f"{package} {version}" if package != "kubernetes-cni" else package, 0, source)
    for package in values.get("kubernetes_runtime_packages") or ():
        yield Item("package", package, 0, DISTRIBUTION)
    repository = str(values.get("kubernetes_image_repository"))
    for name in (f"{name}:v{version}" for name in KUBERNETES_IMAGES):
        yield Item("image", f"{repository}/{name}", 0, repository.partition("/")[0])
    others = f"{repository}/etcd, coredns: the tags of `kubeadm config images list --kubernetes-version {version}`"
    yield Item("image", others, 0, repository.partition("/")[0])
    own = {filled_url(str(values.get(name) or ""), values) for name in MEMBER_IMAGES}
    if manifest := str(values.get("kubernetes_network_manifest") or ""):
        own.discard(str(values.get("kubernetes_network_image")))
        own |= {str(image) for image in (values.get("kubernetes_network_images") or {}).values()}
        yield Item("manifest", manifest, 0, manifest.partition("://")[2].partition("/")[0])
    for image in sorted(own - {""}):
        yield Item("image", image, 0, image.partition("/")[0])


def mirrored_image(form: settings.Mirrors, image: str) -> str:
    """Return an image's name, or a registry, with the mirror in place of its registry; unchanged without a mirror."""
    return f"{form.registry}/{REGISTRY.sub('', f'{image}/')}".rstrip("/") if form.registry and image else image


def acceptance_items(stack: settings.Settings) -> Iterator[Item]:
    """Yield the image that `fleet accept` fetches, where the stack names one."""
    if image := mirrored_image(stack.mirrors, stack.acceptance.image):
        yield Item("image", image, 0, image.partition("/")[0])


def gateway_items(stack: settings.Settings) -> Iterator[Item]:
    """Yield the package of the proxies, where the stack has a gateway."""
    if stack.gateway:
        yield Item("package", "haproxy", 0, DISTRIBUTION)


def filled_url(url: str, values: Mapping[str, Any]) -> str:
    """Return a URL with its variables replaced by their values, as Ansible does it."""
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda match: str(values.get(match[1], "")), url)
