"""Objects on their API server: server-side apply, as the manager of Pulumi's plugin, find, delete.

Needs fleet.cluster. Called by servicer.py and awaiting.py.
"""

import threading
from collections.abc import Mapping
from typing import Any

from fleet import errors
from fleet.cluster import Cluster, managers
from fleet.cluster.forms import ANY
from fleet.validators import Each, Flag, Record, Text

Manifest = Mapping[str, Any]

MANAGER = "pulumi-kubernetes-standin"
FORCE = "pulumi.com/patchForce"
GONE, CONFLICT, INVALID = 404, 409, 422
LIVE = Record({"kind": Text(), "apiVersion": Text(), "metadata": ANY}, open=True)
KINDS = Record(
    {"resources": Each(Record({"name": Text(), "kind": Text(), "namespaced": Flag()}, open=True), most=500)}, open=True
)


class Store:
    """The objects of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._places: dict[tuple[str, str], tuple[str, bool]] = {}
        self._lock = threading.Lock()

    def answers(self) -> None:
        """Raise FleetError where the server does not say which kinds it has, as where the credentials have expired."""
        self.cluster.get("ask which kinds it has", "/api/v1", KINDS)

    def path(self, manifest: Manifest) -> str:
        """Return the path of an object. Raises ClusterRefused, of code 404 for a kind that the server does not know."""
        collection, namespaced = self._place(manifest["apiVersion"], manifest["kind"])
        space = f"/namespaces/{manifest['metadata'].get('namespace') or 'default'}" if namespaced else ""
        return f"{_root(manifest['apiVersion'])}{space}/{collection}/{manifest['metadata']['name']}"

    def find(self, manifest: Manifest) -> dict[str, Any] | None:
        """Return an object as it is now, None where it is not. Raises FleetError."""
        try:
            found: dict[str, Any] | None = self.cluster.find(f"read {name(manifest)}", self.path(manifest), LIVE)
        except errors.ClusterRefused as error:
            if error.code != GONE:
                raise
            return None
        return found

    def apply(self, manifest: Manifest, dry_run: bool = False) -> dict[str, Any]:
        """Apply an object, or only let the server judge it; return it as the server has it. Raises FleetError."""
        force = str((manifest["metadata"].get("annotations") or {}).get(FORCE, "")).lower() == "true"
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": str(force).lower()}
        query |= {"dryRun": "All"} if dry_run else {}
        applied: dict[str, Any] = self.cluster.send(
            f"apply {name(manifest)}", "PATCH", self.path(manifest), manifest, LIVE, "apply-patch+yaml", **query
        )
        return applied

    def take_over(self, manifest: Manifest) -> None:
        """Take the fields that kubectl has changed in an object, so that the next apply has no conflict. Raises FleetError."""
        live = self.find(manifest)
        entries = (live or {}).get("metadata", {}).get("managedFields")
        if not live or not isinstance(entries, list):
            return
        names = {str(entry.get("manager")) for entry in entries if isinstance(entry, Mapping)}
        ours = entries
        for each in sorted(names):
            if each.startswith("kubectl"):
                ours = managers.joined(ours, each) or ours
        if ours is not entries:
            patch = [
                {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"].get("resourceVersion")},
                {"op": "replace", "path": "/metadata/managedFields", "value": ours},
            ]
            doing, path = f"take the fields of kubectl in {name(manifest)}", self.path(manifest)
            self.cluster.send(doing, "PATCH", path, patch, LIVE, "json-patch+json", fieldManager=MANAGER)

    def delete(self, manifest: Manifest) -> None:
        """Begin to delete an object with all that is its own. Raises FleetError, also for one that does not exist."""
        doing, body = f"delete {name(manifest)}", {"propagationPolicy": "Foreground"}
        self.cluster.request(doing, "DELETE", self.path(manifest), body)

    def _place(self, version: str, kind: str) -> tuple[str, bool]:
        """Return the name of a kind's collection, and whether its objects are in a namespace."""
        with self._lock:
            if (version, kind) not in self._places:
                found = self.cluster.get(f"list the kinds of {version}", _root(version), KINDS)
                for each in found["resources"]:
                    if "/" not in each["name"]:
                        self._places[version, each["kind"]] = each["name"], each["namespaced"]
            place = self._places.get((version, kind))
        if place is None:
            seen = f"{version} has no kind {kind}: its CustomResourceDefinition is not there"
            raise errors.ClusterRefused(
                code=GONE, reason="NotFound", node=self.cluster.name, doing="find a kind", seen=seen
            )
        return place


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def name(manifest: Manifest) -> str:
    """Return kind and name of an object, for messages."""
    return f"{manifest['kind']} {ident(manifest)}"


def ident(manifest: Manifest) -> str:
    """Return the ID of an object in Pulumi's state: [NAMESPACE/]NAME."""
    metadata = manifest["metadata"]
    return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
