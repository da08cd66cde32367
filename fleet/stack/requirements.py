"""What a plan requires of one machine before anything is touched there: GPUs, ports, addresses, disk space, kernels. Pure, as JSON.

Of the stack file alone: what only a machine's source knows is left out. Called by `fleet.cli.preflight`, and by `fleet.program` for the input
`wants` of Node. Keys and units are those of fleet.preflight.Requirements.
"""

import dataclasses
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.stack import mirrors, preflight_checks, role_vars, settings, validate
from fleet.stack.rules import disks, models

PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418}
# Variables that are URLs, and those that begin with a registry's host.
URLS = tuple(name for names in mirrors.URLS.values() for name in names)
IMAGES = ("transformers_base_image", "transformers_registry")
BUILDER_ONLY = ("transformers_repository", "transformers_base_image")


def wants(found: settings.Settings, roles: role_vars.Roles, machine: str, stack: str) -> dict[str, Any]:
    """Return what the stack requires of a machine; its owner is to be `stack`, [ORGANIZATION/]PROJECT/STACK."""
    planned = validate.plan(found, roles, machine)
    values = planned.values
    rocm = str(values.get("rocm_version", ""))
    builds = not values.get("transformers_registry") or machine == found.builder
    return {
        "stack": stack,
        "gpus": planned.gpus,
        "driver": bool(values.get("rocm_driver_packages", True)) and bool(values.get("rocm_headers", True)),
        "driver_release": str(values.get("rocm_driver_release") or ""),
        "driver_packages": list(values.get("rocm_driver_packages") or ()),
        "adopts_driver": bool(values.get("rocm_driver_adopt")),
        "docker_packages": [str(name).partition("=")[0] for name in values.get("docker_packages") or ()],
        "oldest_docker": str(values.get("docker_minimum_version") or ""),
        "adopts_docker": bool(values.get("docker_adopt", True)),
        "loaders": list(values.get("rocm_loader_services") or ()),
        "repositories": [
            mirrors.filled(str(values[name]), values) for name in mirrors.URLS["rocm"] if values.get(name)
        ],
        "releases": _releases(),
        "kernels": _kernels(rocm),
        "firmware": list(models.read("versions")["firmware"].get(rocm, ())),
        "arguments": list(values.get("host_kernel_arguments") or ()),
        "ports": {
            str(one["port"]): f"{one['name']}.service"
            for one in planned.replicas
            if planned.network == "host" and "port" in one and "name" in one
        },
        "addresses": sorted(set(_addresses(values, builds))),
        # Of a model that is not known neither the weights nor the image have a size: the lab's are small.
        "space": [dataclasses.asdict(need) for need in disks.needs(planned)] if planned.model else [],
        "filesystems": [
            {"serial": str(one["serial"]), "path": str(one["path"]), "type": str(one["type"])}
            for one in planned.values.get("host_filesystems") or ()
        ],
        "usual": list(found.pool(machine).EXPECTED_WARNINGS),
        "waivers": {
            name: {"reason": waiver.reason, "expires": str(waiver.expires)}
            for name, waiver in found.waivers.items()
            if name in preflight_checks.WAIVABLE
        },
    }


def _kernels(rocm: str) -> dict[str, list[str]]:
    """Return {system: beginnings of kernels} that AMD lists for a ROCm release; {} for one without a list."""
    listed: Mapping[str, list[str]] = models.read("versions")["systems"].get(rocm, {})
    return {system: list(kernels) for system, kernels in listed.items()}


def _releases() -> list[dict[str, Any]]:
    """Return what each known release of ROCm supports, for the advice to a machine that another release does not."""
    known = models.read("versions")
    pairs = {pair["rocm"]: pair["driver"] for pair in known["drivers"]}
    return [
        {"rocm": rocm, "driver": pairs[rocm], "kernels": _kernels(rocm)} for rocm in known["systems"] if rocm in pairs
    ]


def _addresses(values: Mapping[str, Any], builds: bool) -> Iterator[str]:
    """Yield "host:port" of everything that roles ask on this machine."""
    for name in (*URLS, *IMAGES):
        value = mirrors.filled(str(values.get(name) or ""), values)
        if (
            value
            and (builds or name not in BUILDER_ONLY)
            and (address := _registry(value) if name in IMAGES else _server(value))
        ):
            yield address


def _server(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.hostname}:{parts.port or PORTS.get(parts.scheme, 443)}" if parts.hostname else ""


def _registry(image: str) -> str:
    """Return the registry of an image; one without a host in its name is Docker's own, whose name is not ours to know."""
    host = image.partition("/")[0]
    if "/" not in image or not re.search(r"[.:]|^localhost$", host):
        return ""
    return host if ":" in host else f"{host}:443"
