"""What all objects on the cluster share: their form as data, labels, names with a digest. Needs neither Pulumi nor a cluster.

Used by the modules of this folder, one a topic; `declare` hands the objects to Pulumi.
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.stack import kubernetes_form, role_files, role_vars, rules, settings, validate

MODEL = "glm-fleet/model"  # label of a model's pods and objects
OWNER = "glm-fleet/owner"  # label of the namespace: its stack
TEMPLATE = "glm-fleet/template"  # annotation of a pod template: the digest of all else in it
CLIENT = "glm-fleet/client"  # label of pods in the namespace that may connect to the models
OURS = {"app.kubernetes.io/managed-by": "glm-fleet"}
SKIP_AWAIT = {"pulumi.com/skipAwait": "true"}
# A field that the stack sets is the stack's again, whoever has changed it. Not of a volume, which is in nobody's namespace.
FORCE = {"pulumi.com/patchForce": "true"}
UNFORCED = ("PersistentVolume",)
LONGEST = 63  # characters of a label's value
GPU = "amd.com/gpu"
# kind → the name of its collection, in paths and in rights
PLURALS = {
    "Namespace": "namespaces",
    "PersistentVolume": "persistentvolumes",
    "ResourceQuota": "resourcequotas",
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    "Service": "services",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Job": "jobs",
    "Deployment": "deployments",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "NetworkPolicy": "networkpolicies",
    "Ingress": "ingresses",
    "HTTPRoute": "httproutes",
    "PodMonitor": "podmonitors",
}

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Object:
    """One object: its manifest, the keys of those that must exist before it, the seconds that Pulumi waits for it.

    `guard` is the name without which in the stack's `release` Pulumi refuses to delete or replace it: a model, or NAMESPACE; "" for none.
    """

    manifest: Manifest
    after: tuple[str, ...] = ()
    seconds: int = 600
    guard: str = ""

    @property
    def name(self) -> str:
        """Its name, after that of its namespace if it is in one."""
        metadata = self.manifest["metadata"]
        return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))

    @property
    def key(self) -> str:
        """Its kind and name: no other object of the stack has both."""
        return f"{self.manifest['kind']}/{self.name}"

    @property
    def path(self) -> str:
        """Where the API server has it."""
        version, metadata = self.manifest["apiVersion"], self.manifest["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        space = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        return f"{root}{space}/{PLURALS[self.manifest['kind']]}/{metadata['name']}"


@dataclass(frozen=True)
class Stack:
    """A stack on a cluster: its settings, the roles, and who owns the namespace ([ORGANIZATION/]PROJECT/STACK)."""

    settings: settings.Settings
    cluster: kubernetes_form.Cluster
    roles: role_vars.Roles
    owner: str

    def values(self, model: str) -> Mapping[str, Any]:
        """Return the role variables of a model, with their defaults."""
        return self._plans[model].values

    def protects(self, guard: str) -> bool:
        """Whether Pulumi refuses to delete or replace what has this guard: unless the cluster is the lab's, or the stack releases it."""
        return bool(guard) and not self.cluster.lab and guard not in self.settings.release

    def gpus(self, model: str) -> int:
        """Return how many GPUs a pod of a model has."""
        return self._plans[model].gpus

    @functools.cached_property  # each object asks
    def _plans(self) -> Mapping[str, rules.MachinePlan]:
        return {model: validate.model_plan(self.settings, self.roles, model) for model in self.cluster.models}

    def role(self, name: str, values: Mapping[str, Any]) -> role_files.RoleFiles:
        """Return a role with values in place of its defaults."""
        return role_files.RoleFiles(self.roles.folder / name, {**self.roles.defaults, **values})


def made(
    api: str,
    kind: str,
    name: str,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **content: Any,
) -> Manifest:
    """Return a manifest; lists without an entry are left out, as the API server does it."""
    notes = {**(annotations or {}), **({} if kind in UNFORCED else FORCE)}
    metadata = {
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        "labels": {**OURS, **(labels or {})},
        **({"annotations": notes} if notes else {}),
    }
    manifest: Manifest = _without_empty_lists({"apiVersion": api, "kind": kind, "metadata": metadata, **content})
    return manifest


def _without_empty_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_empty_lists(inner) for name, inner in value.items() if inner != []}
    return [_without_empty_lists(inner) for inner in value] if isinstance(value, list) else value


def digest(content: Any) -> str:
    """Return ten hexadecimal digits for a name that changes with the content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


@functools.cache  # each model's template asks
def secret_digest(secret: str, salt: str) -> str:
    """Return a digest that stands in clear where the secret must not: each guess of a weak secret costs as much as a login."""
    return hashlib.scrypt(secret.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=8).hex()


def label(text: str) -> str:
    """Return a text as the value of a label."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:LONGEST].strip("-_.")


def selector(model: str) -> dict[str, Any]:
    """Return the selector of a model's pods."""
    return {"matchLabels": {MODEL: model}}


def quantity(docker: str) -> str:
    """Return a size in Docker's notation (32g) in that of Kubernetes (32Gi): both mean powers of two."""
    number, unit = re.fullmatch(r"([0-9]+)([bkmg]?)", docker.lower()).groups()  # type: ignore[union-attr]
    return number + {"": "", "b": "", "k": "Ki", "m": "Mi", "g": "Gi"}[unit]


def literal(text: str) -> str:
    """Return a text in which Kubernetes replaces no $(NAME)."""
    return text.replace("$(", "$$(")


def tolerations(stack: Stack) -> list[dict[str, Any]]:
    """Return the taints of the GPU nodes that the stack accepts."""
    forms = [toleration.model_dump(exclude_none=True) for toleration in stack.cluster.tolerations]
    return [{**form, "operator": "Equal" if "value" in form else "Exists"} for form in forms]
