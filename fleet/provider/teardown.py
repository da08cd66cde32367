"""What the delete of a resource asks of its machine: which of the things there are ours, what goes with them, what stays on purpose.

Pure, but for the roles' defaults, which it reads. Called by fleet.provider.playbook; playbooks/files/teardown.py does what is asked.
"""

from collections.abc import Collection, Mapping
from typing import Any

from fleet.provider.base import ROOT

Asked = dict[str, Any]

HEX = "[0-9a-f]"


def asked(kind: str, properties: Mapping[str, Any], purge: Collection[str]) -> Asked:
    """Return `managed` of playbooks/teardown.yml for a resource of this kind (host, image, weights, serving)."""
    found: Asked = {"files": [], "units": [], "packages": [], "restores": [], "sysctls": []}
    for what, made in ((properties.get("managed") or {}).get("declared") or {}).items():
        thing, _, name = what.partition(" ")
        if thing == "file":
            found["files" if made else "restores"].append(name)
        elif thing == "sysctl":
            found["sysctls"].append(name)
        elif made and f"{thing}s" in found:
            found[f"{thing}s"].append(name)
    return found | _MORE[kind](found, properties, purge)


def _host(found: Asked, properties: Mapping[str, Any], purge: Collection[str]) -> Asked:
    mounts = [name for name in found["units"] if name.endswith(".mount")]
    theirs = [name for name in found["files"] if name.endswith(".mount") or "/dev-disk-by\\x2duuid-" in name]
    driver = [name for name in found["packages"] if name in variable(properties, "rocm", "rocm_driver_packages")]
    kept = [] if "driver" in purge else driver
    return {
        "packages": [name for name in found["packages"] if name not in kept],
        "units": [name for name in found["units"] if name not in mounts],
        "files": [name for name in found["files"] if name not in theirs],
        "options": variable(properties, "docker", "docker_daemon_options"),
        "keeps": [_keep("the driver", "driver", packages=kept), *map(_mounted, mounts)],
        "ends": True,
    }


def _image(found: Asked, properties: Mapping[str, Any], purge: Collection[str]) -> Asked:
    built = properties.get("image"), variable(properties, "transformers", "transformers_base_image")
    return {"images": [reference for reference in built if reference], "trees": ["/var/lib/fleet/transformers"]}


def _weights(found: Asked, properties: Mapping[str, Any], purge: Collection[str]) -> Asked:
    place = f"{variable(properties, 'weights', 'weights_dir')}/{variable(properties, 'weights', 'weights_repository')}"
    revisions = f"{place}/{HEX * 40}", f"{place}/.incoming-{HEX * 40}"
    rest = f"{place}/.wanted-{HEX * 40}.json"
    if "weights" in purge:
        return {"trees": [rest], "models": [place]}
    return {"trees": [rest], "keeps": [_keep("the model", "weights", paths=revisions)]}


def _serving(found: Asked, properties: Mapping[str, Any], purge: Collection[str]) -> Asked:
    image = variable(properties, "vllm", "vllm_image")
    return {
        "images": [image] if image else [],
        "trees": [f"{variable(properties, 'vllm', 'vllm_cache_dir')}/{HEX * 12}"],  # of every image that was served
    }


def _mounted(unit: str) -> Asked:
    """A file system on a named disk: what is on it is not ours to judge."""
    remedy = f"`systemctl disable --now {unit}` there unmounts it, and nothing formats the disk"
    return {"words": "a file system that is mounted", "paths": [f"/etc/systemd/system/{unit}"], "remedy": remedy}


def _keep(words: str, name: str, **what: Collection[str]) -> Asked:
    remedy = f"with {name} in `glm-fleet:purge` it goes, too"
    return {"words": words, **{part: list(names) for part, names in what.items()}, "remedy": remedy}


def variable(properties: Mapping[str, Any], role: str, name: str) -> Any:
    """Return a role variable as the resource had it, or the role's default."""
    import yaml  # a fifth of a plugin's start, which only a delete needs to pay

    own = properties.get("vars") or {}
    return (
        own[name]
        if name in own
        else yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())[name]
    )


_MORE = {"host": _host, "image": _image, "weights": _weights, "serving": _serving}
