"""Mirrors: from where everything is fetched that a fleet fetches, and what must lie there. Pure.

A mirror takes the place of the host in every URL of its kind; paths stay, so a mirror is a plain copy. Called by `fleet.stack.validate`,
which lays it over the variables, and by `fleet mirrors`, which lists what a stack needs.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.stack import settings
from fleet.stack.rules import models

# Role variables that are URLs, by the key of `mirrors:` whose mirror takes the place of their host.
URLS = {
    "rocm": ("rocm_repository_url", "rocm_driver_repository_url"),
    "docker": ("docker_repository_url",),
    "git": ("transformers_repository",),
    "hub": ("weights_endpoint",),
}
# And those that begin with a registry's host.
IMAGES = ("transformers_base_image",)
# What makes a file system, by its type: roles/host/vars/main.yml, _host_makers.
MAKERS = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}
DISTRIBUTION = "the system's own sources"
SERVER, REGISTRY = re.compile(r"^\w+://[^/]+"), re.compile(r"^(?:[^/]+[.:][^/]*|localhost)/")


@dataclass(frozen=True)
class Item:
    """One thing to be mirrored: its kind, its name as it is asked for, bytes where they are known, where from."""

    kind: str
    name: str
    bytes: int
    source: str


def mirrored(found: settings.Mirrors, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables that mirrors change, with the mirror in them; `values` have the roles' defaults."""
    told = found.model_dump(exclude_none=True)
    changed = {
        name: SERVER.sub(told[key].rstrip("/"), str(values.get(name) or ""))
        for key in URLS
        if key in told
        for name in URLS[key]
    }
    images = {name: image(found, str(values.get(name) or "")) for name in IMAGES}
    return {name: value for name, value in {**changed, **images}.items() if value and value != values.get(name)}


def items(values: Mapping[str, Any]) -> Iterator[Item]:
    """Yield what a machine with these variables fetches, in the order in which it does; `{{ name }}` in a URL is another variable."""
    tools, driver, docker = (filled(str(values.get(name) or ""), values) for name in (*URLS["rocm"], *URLS["docker"]))
    for package in values.get("docker_packages") or ():
        yield Item("package", package, 0, docker or DISTRIBUTION)
        if package.partition("=")[0] == "docker.io":
            yield Item("package", "docker-cli, on Debian 13", 0, docker or DISTRIBUTION)
    keeper = values.get("host_time_service")
    for package in (*(values.get("host_packages") or ()), *([keeper] if keeper else [])):
        yield Item("package", package, 0, DISTRIBUTION)
    for package in dict.fromkeys(MAKERS[one["type"]] for one in values.get("host_filesystems") or ()):
        yield Item("package", package, 0, DISTRIBUTION)
    if values.get("rocm_headers"):
        yield Item("package", "linux-headers-KERNEL, of the kernel that runs there", 0, DISTRIBUTION)
    for package in values.get("rocm_driver_packages") or ():
        version = values.get("rocm_driver_version")
        yield Item("package", f"{package} {version}" if version else package, 0, driver or tools)
    for package in values.get("rocm_packages") or ():
        yield Item("package", package, 0, tools)
    if image := str(values.get("transformers_base_image") or ""):
        yield Item("image", image, 0, image.partition("/")[0])
    yield Item(
        "commit", str(values.get("transformers_commit") or "-"), 0, str(values.get("transformers_repository") or "")
    )
    repository = str(values.get("weights_repository") or "")
    size = models.known()[repository].weights if repository in models.known() else 0
    yield Item(
        "weights",
        f"{repository}@{values.get('weights_revision') or '-'}",
        size,
        str(values.get("weights_endpoint") or ""),
    )


def image(found: settings.Mirrors, named: str) -> str:
    """Return an image's name with the mirror in the place of its registry, where there is one."""
    return f"{found.registry}/{REGISTRY.sub('', named)}" if found.registry and named else named


def measured(found: settings.Settings) -> Iterator[Item]:
    """Yield what `fleet accept` fetches besides, where a stack says with what it measures."""
    if named := image(found.mirrors, found.acceptance.image):
        yield Item("image", named, 0, named.partition("/")[0])


def filled(text: str, values: Mapping[str, Any]) -> str:
    """Return a URL with the variables in it, as Ansible will fill it."""
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda found: str(values.get(found[1], "")), text)
