"""What a stack requires of one machine before a run changes it: GPUs, ports, addresses, disk space, kernels. Pure, as JSON.

From the stack file alone, without what only the machine's source knows. Called by fleet.cli.preflight, and by fleet.program for the input
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
# Variables that hold a URL, those that begin with a registry's host, and those of both that only the image's builder uses.
URLS = tuple(name for names in mirrors.URLS.values() for name in names)
IMAGES = (*mirrors.IMAGES, "kubernetes_pause_image", "transformers_registry")
BUILDER_ONLY = ("transformers_repository", "transformers_base_image")


def of_machine(stack: settings.Settings, roles: role_vars.Roles, machine: str, owner: str) -> dict[str, Any]:
    """Return the requirements of a machine that the stack `owner` ([ORGANIZATION/]PROJECT/STACK) will own."""
    plan = validate.machine_plan(stack, roles, machine)
    values = plan.values
    rocm = str(values.get("rocm_version", ""))
    builds = not values.get("transformers_registry") or machine == stack.builder
    return {
        "stack": owner,
        "serves": bool(plan.gpus),
        "gpus": plan.gpus,
        "driver": bool(plan.gpus)
        and bool(values.get("rocm_driver_packages", True))
        and bool(values.get("rocm_headers", True)),
        "driver_release": str(values.get("rocm_driver_release") or ""),
        "driver_packages": list(values.get("rocm_driver_packages") or ()),
        "adopts_driver": bool(values.get("rocm_driver_adopt")),
        "docker_packages": [str(name).partition("=")[0] for name in values.get("docker_packages") or ()],
        "oldest_docker": str(values.get("docker_minimum_version") or ""),
        "adopts_docker": bool(values.get("docker_adopt", True)),
        "loaders": list(values.get("rocm_loader_services") or ()),
        "repositories": [
            mirrors.filled_url(str(values[name]), values) for name in mirrors.URLS["rocm"] if values.get(name)
        ],
        "releases": _releases() if plan.gpus else [],
        "kernels": _kernels(rocm) if plan.gpus else _systems(),
        "firmware": list(models.read("versions")["firmware"].get(rocm, ())),
        "arguments": list(values.get("host_kernel_arguments") or ()),
        "ports": {
            str(replica["port"]): f"{replica['name']}.service"
            for replica in plan.replicas
            if plan.network == "host" and "port" in replica and "name" in replica
        },
        "addresses": sorted(set(_addresses(values, builds))),
        # For an unknown model neither the weights' size nor the image's is known: the lab's are small.
        "space": [dataclasses.asdict(need) for need in disks.needs(plan)] if plan.model else [],
        "filesystems": [
            {key: str(disk[key]) for key in ("serial", "path", "type")} for disk in values.get("host_filesystems") or ()
        ],
        "usual": list(stack.pool(machine).EXPECTED_WARNINGS),
        "waivers": {
            name: {"reason": waiver.reason, "expires": str(waiver.expires)}
            for name, waiver in stack.waivers.items()
            if name in preflight_checks.WAIVABLE
        },
    }


def _kernels(rocm: str) -> dict[str, list[str]]:
    """Return {system: starts of kernel versions} that AMD lists for a ROCm release; {} for a release without a list."""
    systems: Mapping[str, list[str]] = models.read("versions")["systems"].get(rocm, {})
    return {system: list(kernels) for system, kernels in systems.items()}


def _systems() -> dict[str, list[str]]:
    """Return {system: []} for every system of a known ROCm release: a machine without GPUs may run any kernel."""
    return {system: [] for systems in models.read("versions")["systems"].values() for system in systems}


def _releases() -> list[dict[str, Any]]:
    """Return each known ROCm release with its driver and kernels: the preflight names those that support a machine."""
    versions = models.read("versions")
    drivers = {pair["rocm"]: pair["driver"] for pair in versions["drivers"]}
    return [
        {"rocm": rocm, "driver": drivers[rocm], "kernels": _kernels(rocm)}
        for rocm in versions["systems"]
        if rocm in drivers
    ]


def _addresses(values: Mapping[str, Any], builds: bool) -> Iterator[str]:
    """Yield "host:port" of every server that roles use from this machine."""
    for name in (*URLS, *IMAGES):
        value = mirrors.filled_url(str(values.get(name) or ""), values)
        address = (
            _registry(f"{value}/" if name == "kubernetes_image_repository" else value)
            if name in IMAGES
            else _server(value)
        )
        if address and (builds or name not in BUILDER_ONLY):
            yield address


def _server(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or PORTS.get(parts.scheme, 443)}" if host else ""


def _registry(image: str) -> str:
    """Return the "host:port" of an image's registry; "" for an image without one in its name, which is from Docker's own."""
    host = image.partition("/")[0]
    if "/" not in image or not re.search(r"[.:]|^localhost$", host):
        return ""
    return host if ":" in host else f"{host}:443"
