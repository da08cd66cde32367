"""What is before the models: a route of the cluster's Gateway or an Ingress, with the same paths as the gateway on machines; a PodMonitor."""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.program.kubernetes import pod_files
from fleet.program.kubernetes.objects import OURS, Object, Stack, made
from fleet.stack import kubernetes_form


def objects(stack: Stack) -> Iterator[Object]:
    """Yield the routes of the models with a host, and the PodMonitor."""
    cluster, space = stack.cluster, stack.cluster.namespace
    here = (f"Namespace/{space}",)
    gateway, ingress = (cluster.endpoint.gateway, cluster.endpoint.ingress) if cluster.endpoint else (None, None)
    for model, form in cluster.models.items():
        service = (*here, f"Service/{space}/{model}")
        if form.host and gateway:
            yield Object(_route(stack, gateway, model, form.host), service)
        if form.host and ingress:
            yield Object(_ingress(stack, ingress, model, form.host), service)
    if monitor := cluster.pod_monitor:
        spec = {"selector": {"matchLabels": OURS}, "podMetricsEndpoints": [{"port": "http", "path": "/metrics"}]}
        yield Object(made("monitoring.coreos.com/v1", "PodMonitor", "models", space, monitor.labels, spec=spec), here)


def _route(stack: Stack, gateway: kubernetes_form.Gateway, model: str, host: str) -> dict[str, Any]:
    """Return the HTTPRoute of a model: exact paths and methods."""
    parent = {"name": gateway.name, "namespace": gateway.namespace}
    matches = [
        {"path": {"type": "Exact", "value": path}, "method": method}
        for method, paths in allowed().items()
        for path in paths
    ]
    seconds = stack.roles.defaults["gateway_request_timeout"]
    rule = {
        "matches": matches,
        "backendRefs": [{"name": model, "port": 80}],
        "timeouts": {"request": f"{seconds}s"},
    }
    spec = {
        "parentRefs": [{**parent, **({"sectionName": gateway.listener} if gateway.listener else {})}],
        "hostnames": [host],
        "rules": [rule],
    }
    return made("gateway.networking.k8s.io/v1", "HTTPRoute", model, stack.cluster.namespace, spec=spec)


def _ingress(stack: Stack, ingress: kubernetes_form.Ingress, model: str, host: str) -> dict[str, Any]:
    """Return the Ingress of a model: exact paths; an Ingress knows no methods."""
    backend = {"service": {"name": model, "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "Exact", "backend": backend} for paths in allowed().values() for path in paths]
    spec = {
        "ingressClassName": ingress.class_name,
        "tls": [{"hosts": [host], "secretName": ingress.tls_secret}],
        "rules": [{"host": host, "http": {"paths": paths}}],
    }
    space, notes = stack.cluster.namespace, ingress.annotations
    return made("networking.k8s.io/v1", "Ingress", model, space, annotations=notes, spec=spec)


@functools.cache
def allowed() -> Mapping[str, tuple[str, ...]]:
    """Return the paths that clients may ask, by method: those of the role gateway."""
    text = (pod_files.ROOT / "roles" / "gateway" / "templates" / "common.j2").read_text()
    found = {name: re.search(rf"acl {name} path (.+)", text) for name in ("posts", "gets")}
    return {{"posts": "POST", "gets": "GET"}[name]: tuple(match[1].split()) for name, match in found.items() if match}
