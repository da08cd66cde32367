"""A stack whose machines become one Kubernetes cluster: control planes without GPUs, and a worker with eight.

Called by the tests of the form, of the program and of what reaches the playbook as data.
"""

from typing import Any

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4b1Gcpmcx5cDCqGhqbXvPNLMXtMYBUR3Mj0RvIm4sM"
NAMES = ("cp-1", "cp-2", "cp-3", "gpu-1")
ENDPOINT = "api.example.com"
PINNED = f"registry.example/amd@sha256:{'ab' * 32}"
IMAGES = {"kubernetes_device_plugin_image": PINNED, "kubernetes_labeller_image": PINNED}
# What a stack must have, and what it is told to.
VARS: dict[str, Any] = {**IMAGES, "kubernetes_repository_key": "-----BEGIN PGP PUBLIC KEY BLOCK-----"}


def stack(planes: list[str], endpoint: str = "", **more: Any) -> dict[str, Any]:
    """Return the keys of a stack file, without their prefix."""
    machines = {
        name: {"address": f"192.0.2.{number}", "host_key": HOST_KEY, **({"gpus": 0} if name.startswith("cp") else {})}
        for number, name in enumerate(NAMES, start=1)
    }
    cluster = {"control_planes": planes, **({"endpoint": endpoint} if endpoint else {})}
    return {"nodes": {"source": "ssh", "machines": machines}, "cluster": cluster, **more}


def config() -> dict[str, Any]:
    """Return the configuration of a stack with three control planes."""
    return {f"glm-fleet:{key}": value for key, value in stack([*NAMES[:3]], ENDPOINT, vars=VARS).items()}
