"""Build the request of a teardown: what the delete of a resource removes from its machine, restores, and keeps on purpose.

Reads the roles' defaults, otherwise pure. Called by playbook.py; playbooks/files/teardown.py carries out the request.
"""

from collections.abc import Collection, Mapping
from typing import Any

from fleet.provider.base import ROOT

Request = dict[str, Any]

HEX = "[0-9a-f]"
# What turns leave on a node: who drained it, and the last good state of a change that did not end (fleet/managed/rotation.py, snapshot.py).
TURNS = ("/var/lib/fleet/drain.json", "/var/lib/fleet/last")
# What a machine has that has become a member of a cluster (roles/kubernetes).
MEMBER = "/etc/kubernetes/fleet/member"
# What is left of a dead man's switch that no run confirmed, and of a reboot that did not help (roles/host/files/boot_revert.py).
SWITCH_UNIT = "fleet-boot-revert.timer"
SWITCH_FILES = [
    "/etc/systemd/system/fleet-boot-revert.*",
    "/var/lib/fleet/boot-revert",
    "/var/lib/fleet/boot-reverted.json",
    "/var/lib/fleet/reboot-attempted",
]


def request(kind: str, properties: Mapping[str, Any], purge: Collection[str]) -> Request:
    """Return `managed` of playbooks/teardown.yml for a resource of this kind: host, image, weights, serving, gateway or member."""
    parts = ("files", "units", "packages", "users", "groups", "restores", "sysctls")
    things: Request = {part: [] for part in parts}
    for thing, ours in ((properties.get("managed") or {}).get("declared") or {}).items():
        thing_kind, _, name = thing.partition(" ")
        if thing_kind == "file":
            things["files" if ours else "restores"].append(name)
        elif thing_kind == "sysctl":
            things["sysctls"].append(name)
        elif ours and f"{thing_kind}s" in things:
            things[f"{thing_kind}s"].append(name)
    return things | _BY_KIND[kind](things, properties, purge)


def _host(things: Request, properties: Mapping[str, Any], purge: Collection[str]) -> Request:
    mounts = [name for name in things["units"] if name.endswith(".mount")]
    mount_files = [name for name in things["files"] if name.endswith(".mount") or "/dev-disk-by\\x2duuid-" in name]
    driver = [name for name in things["packages"] if name in variable(properties, "rocm", "rocm_driver_packages")]
    kept_packages = [] if "driver" in purge else driver
    return {
        "packages": [name for name in things["packages"] if name not in kept_packages],
        "units": [*(name for name in things["units"] if name not in mounts), SWITCH_UNIT],
        "trees": SWITCH_FILES,
        "files": [name for name in things["files"] if name not in mount_files],
        "options": variable(properties, "docker", "docker_daemon_options"),
        "keeps": [_keep("the driver", "driver", packages=kept_packages), *map(_keep_mount, mounts)],
        "ends": True,
    }


def _image(things: Request, properties: Mapping[str, Any], purge: Collection[str]) -> Request:
    references = properties.get("image"), variable(properties, "transformers", "transformers_base_image")
    return {"images": [reference for reference in references if reference], "trees": ["/var/lib/fleet/transformers"]}


def _weights(things: Request, properties: Mapping[str, Any], purge: Collection[str]) -> Request:
    folder = f"{variable(properties, 'weights', 'weights_dir')}/{variable(properties, 'weights', 'weights_repository')}"
    revisions = f"{folder}/{HEX * 40}", f"{folder}/.incoming-{HEX * 40}"
    sums = f"{folder}/.wanted-{HEX * 40}.json"  # weights_manifest as the role wrote it
    lists = f"{folder}/.chunks-{HEX * 40}"  # what neighbours read
    trees = [sums, lists, "/etc/fleet/weights"]
    if "weights" in purge:
        return {"trees": trees, "models": [folder]}
    return {"trees": trees, "keeps": [_keep("the model", "weights", paths=revisions)]}


def _serving(things: Request, properties: Mapping[str, Any], purge: Collection[str]) -> Request:
    image = variable(properties, "vllm", "vllm_image")
    return {
        "images": [image] if image else [],
        "trees": [f"{variable(properties, 'vllm', 'vllm_cache_dir')}/{HEX * 12}", *TURNS],  # of every image
    }


def _gateway(things: Request, properties: Mapping[str, Any], purge: Collection[str]) -> Request:
    folders = ("/etc/fleet/proxy", "/etc/fleet/gateway", "/var/lib/fleet-proxy", "/var/lib/fleet-gateway")
    return {"trees": [*folders, "/etc/fleet/acme", "/var/lib/fleet-acme"]}


def _member(things: Request, properties: Mapping[str, Any], purge: Collection[str]) -> Request:
    runtime = ("/etc/containerd", "/var/lib/containerd", "/etc/cni/net.d", "/opt/cni")
    ours = runtime if any(name.startswith("containerd") for name in things["packages"]) else ()
    return {
        "member": True,
        "trees": ["/etc/kubernetes", "/var/lib/kubelet", "/var/lib/etcd", "/var/lib/fleet/etcd", *ours],
        "until_reboot": [
            {"path": MEMBER, "words": "the firewall rules, routes and interfaces of the cluster's network"}
        ],
    }


def _keep_mount(unit: str) -> Request:
    """Keep the file system of a named disk mounted: it may have data of others."""
    remedy = f"`systemctl disable --now {unit}` on the node unmounts it and keeps its data"
    return {"words": "a mounted file system", "paths": [f"/etc/systemd/system/{unit}"], "remedy": remedy}


def _keep(words: str, name: str, **things: Collection[str]) -> Request:
    remedy = f"add {name} to `glm-fleet:purge` to remove it"
    return {"words": words, **{part: list(names) for part, names in things.items()}, "remedy": remedy}


def variable(properties: Mapping[str, Any], role: str, name: str) -> Any:
    """Return the value of a role variable of the resource, or the role's default."""
    import yaml  # a fifth of a plugin's start, which only a delete needs

    values = properties.get("vars") or {}
    if name not in values:
        values = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    return values[name]


_BY_KIND = {
    "host": _host,
    "image": _image,
    "weights": _weights,
    "serving": _serving,
    "gateway": _gateway,
    "member": _member,
}
