"""The values of a stack's configuration that decide what serves: image, flags, weights. `fleet rollback` puts earlier ones back. Pure.

A configuration is {"glm-fleet:KEY": value}, of a stack file or of Pulumi's history. The machines of a separate file are in neither.
"""

from collections.abc import Iterator, Mapping
from typing import Any

PREFIXES = ("transformers_", "weights_", "vllm_")
NODES, KUBERNETES, VARS = KEYS = "glm-fleet:nodes", "glm-fleet:kubernetes", "glm-fleet:vars"

Path = tuple[str, ...]  # the keys below `config`; of a machine NODES, its name, `vars`, the variable


def of(config: Mapping[str, Any]) -> dict[Path, Any]:
    """Return {path: value} of the role variables that decide what serves, and of a cluster's image."""
    return {(*path, name): value for path, own in _owners(config) for name, value in own.items()}


def replaced(config: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[Path, Any]:
    """Return the values of an earlier configuration, and this one's for machines and models that the earlier one did not have."""
    both = {path for path, _ in _owners(config)} & {path for path, _ in _owners(earlier)}
    kept = {path: value for path, value in of(config).items() if path[:-1] not in both}
    return kept | {path: value for path, value in of(earlier).items() if path[:-1] in both}


def pools(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the sources of a configuration."""
    nodes = config.get(NODES) or []
    return [pool for pool in (nodes if isinstance(nodes, list) else [nodes]) if isinstance(pool, Mapping)]


def owners(config: Mapping[str, Any]) -> list[Path]:
    """Return the path of each mapping that can have such values: of the stack, each machine, each model."""
    return [path for path, _ in _owners(config)]


def _owners(config: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield each of these paths with its values that decide what serves."""
    yield (VARS,), _served(config.get(VARS))
    for pool in pools(config):
        for name, machine in _mapping(pool.get("machines")).items():
            yield (NODES, name, "vars"), _served(_mapping(machine).get("vars"))
    if cluster := _mapping(config.get(KUBERNETES)):
        yield (KUBERNETES,), {"image": cluster["image"]} if "image" in cluster else {}
        for name, model in _mapping(cluster.get("models")).items():
            yield (KUBERNETES, "models", name, "vars"), _served(_mapping(model).get("vars"))


def _served(variables: Any) -> Mapping[str, Any]:
    return {name: value for name, value in _mapping(variables).items() if name.startswith(PREFIXES)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
