"""A stack on a cluster, for tests: its keys, and its objects as data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.program import kubernetes
from fleet.stack import role_vars, settings

ROOT = Path(__file__).resolve().parents[2]
FILE = "stacks/Pulumi.prod.yaml"
KEY = "0123456789abcdef0123456789abcdef"
IMAGE = f"registry.example/glm/serving@sha256:{'ab' * 32}"
HOMES: Mapping[str, dict[str, Any]] = {
    "nodes": {"home": "nodes", "path": "/var/lib/glm-fleet/models"},
    "claim": {"home": "claim", "storage_class": "shared", "size": "500Gi"},
    "image": {"home": "image", "image": f"registry.example/glm/weights@sha256:{'ef' * 32}", "folder": "models/glm"},
}
ROLES = role_vars.load(ROOT / "roles")


def keys(variables: Mapping[str, Any] | None = None, **cluster: Any) -> dict[str, Any]:
    """Return the keys of a right stack, with these keys of its cluster in place of its own, and more `variables`; None leaves one out."""
    own = {
        "context": "prod",
        "image": IMAGE,
        "render_group": 992,
        "weights": HOMES["nodes"],
        "models": {"glm": {"replicas": 2}},
        **cluster,
    }
    fetched = {} if own["weights"] and own["weights"].get("home") == "image" else {"weights_revision": "cd" * 20}
    merged = {
        "transformers_base_vllm": "0.32.0",
        "vllm_environment": {"VLLM_ROCM_USE_AITER": "1"},
        **fetched,
        **(variables or {}),
    }
    return {"kubernetes": {key: value for key, value in own.items() if value is not None}, "vars": merged}


def stack(variables: Mapping[str, Any] | None = None, **cluster: Any) -> kubernetes.Stack:
    """Return a stack with these keys of its cluster, and more variables."""
    read = settings.read(keys(variables, **cluster), FILE)
    assert read.kubernetes
    return kubernetes.Stack(read, read.kubernetes, ROLES, "org/glm-fleet/prod")


def objects(
    of: kubernetes.Stack, nodes: tuple[str, ...] = ("glm-1", "glm-2"), token: str | None = None
) -> dict[str, Any]:
    """Return the manifests of a stack by the key of each object."""
    made = kubernetes.objects(of, KEY, nodes, f"VLLM_API_KEY={KEY}\n", token)
    return {item.key: item.manifest for item in made}
