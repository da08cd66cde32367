"""A lab's Kubernetes cluster: a control plane and nodes in containers like the lab's other nodes, beside the lab's site.

Owns the containers, the cluster's keys, the kubeconfig. Needs a Docker daemon, the images of lab.build and the programs of
lab.kubernetes.build. Called by the lab's plugin (lab/provider) and by the tests. `remove` removes everything, the site too.
"""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import build as images
from lab import machine, network, site
from lab.commands import LabError, docker, run, step
from lab.images import kubernetes as image
from lab.kubernetes import build, control_plane, crds, machine_files, pause_image, pki
from lab.kubernetes.machine_files import API_PORT, FOLDER, GPU, PROXY, Node

CONTEXT = "glm-fleet-lab"  # the kubeconfig's only context, which is never its current one: a stack file names it
CONTROL_PLANE = "control-plane"  # its container, beside those of the nodes
SERVER_NAMES = ("localhost", "10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
# As AMD's labeller sets them on a node with MI300X.
LABELS = {
    "feature.node.kubernetes.io/amd-gpu": "true",
    "amd.com/gpu.cu-count": "304",
    "amd.com/gpu.device-id": "74a1",
    "amd.com/gpu.driver-version": "6.16.13",
    "amd.com/gpu.family": "AI",
    "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM",
    "amd.com/gpu.vram": "192G",
}
DOT = r"\."  # in a JSONPath
ALLOCATABLE = f"{{.status.allocatable.{GPU.replace('.', DOT)}}}"
# Of all machines of a cluster, whatever runs on them: an overlay bears neither containerd's snapshots nor etcd's files well.
VOLUMES = {"containerd": "/var/lib/containerd", "kubelet": "/var/lib/kubelet", "etcd": "/var/lib/etcd"}
READY = 300  # seconds until an API server answers, and until a node is ready: 10 s of two idle cores
# The API server itself reads logs and forwards ports on a node as this user.
KUBELETS_CLIENT = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "lab:kubelets-client"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": pki.KUBELETS_CLIENT}],
}


@dataclass(frozen=True)
class Cluster:
    """The parts of one cluster. `site` is the address of the lab's site, `authority` the certificate of its CA."""

    lab: str
    folder: Path
    address: str  # of the control plane
    nodes: Sequence[Node]
    site: str
    authority: str
    keys: pki.Keys

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig."""
        return self.folder / "kubeconfig"

    def config(self, tokens: Mapping[str, str], current: str = "") -> str:
        """Return a kubeconfig with a context for each token."""
        return pki.kubeconfig(f"https://{self.address}:{API_PORT}", self.keys.authority.read_text(), tokens, current)

    def components(self, *users: str) -> dict[str, str]:
        """Return the kubeconfigs of components, by their paths."""
        return {machine_files.kubeconfig_path(user): self.config({user: self.keys.token(user)}, user) for user in users}


def create(lab: str, gpus: Mapping[str, int], folder: Path) -> dict[str, Any]:
    """Create a site and a cluster, replacing old ones. `gpus` has the number of each node.

    Return {kubeconfig, context, address, image, authority, render_group} when every node is ready and offers its GPUs. `image` is the
    serving image's base in the site's registry, by digest; `authority` the file of the CA of that registry and of the hub.
    """
    build.ensure("cp", "node", "pause")
    supplied = site.create(lab, [images.KUBERNETES], folder)["vars"]
    cluster = _plan(lab, sorted(gpus), folder, supplied["docker_registry_certificates"][site.REGISTRY])
    _write(cluster.kubeconfig, cluster.config({CONTEXT: cluster.keys.token(pki.ADMIN)}))
    _write(folder / "ca.pem", cluster.authority)
    with step("start the cluster's control plane"):
        _start_control_plane(cluster)
        await_api_server(cluster)
        objects = _list([KUBELETS_CLIENT, *crds.definitions()])
        kubectl(cluster.kubeconfig, "apply", "--server-side", "--filename=-", stdin=objects)
    with step(f"start the cluster's nodes: {', '.join(gpus)}"):
        for node in cluster.nodes:
            _start_node(cluster, node, gpus[node.name])
        for node in cluster.nodes:
            await_node(cluster, node, gpus[node.name])
    return {
        "kubeconfig": str(cluster.kubeconfig),
        "context": CONTEXT,
        "address": cluster.address,
        "image": supplied["transformers_base_image"],
        "authority": str(folder / "ca.pem"),
        "render_group": image.RENDER_GROUP,
    }


def exists(lab: str, nodes: Collection[str]) -> bool:
    """Whether every container of the cluster exists."""
    return site.exists(lab) and all(machine.exists(lab, name) for name in (CONTROL_PLANE, *nodes))


def remove(lab: str, folder: Path) -> None:
    """Remove everything of the lab: containers, volumes, network, keys, kubeconfig."""
    site.remove(lab, folder)


def kubectl(kubeconfig: Path, *arguments: str, stdin: bytes | None = None, timeout: float = READY) -> str:
    """Run kubectl as the cluster's admin and return its output."""
    return run(*_kubectl(kubeconfig), *arguments, stdin=stdin, timeout=timeout)


def _kubectl(kubeconfig: Path) -> list[str]:
    own = (f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent / 'kubectl'}", f"--context={CONTEXT}")
    return [str(build.binary("cp")), "kubectl", *own]


def _plan(lab: str, names: Sequence[str], folder: Path, authority: str) -> Cluster:
    """Reserve the addresses of a cluster in the lab's network, and make its keys."""
    net = network.find(lab)
    assert net  # the site made it
    address = network.free_address(net, folder, CONTROL_PLANE)
    nodes = [Node(name, network.free_address(net, folder, name), number) for number, name in enumerate(names, start=1)]
    components = dict.fromkeys((control_plane.CONTROLLER_MANAGER, control_plane.SCHEDULER, PROXY), "")
    kubelets = dict.fromkeys((node.user for node in nodes), "system:nodes")
    keys = pki.make(folder / "keys", [address, *SERVER_NAMES], {**components, **kubelets})
    return Cluster(lab, folder, address, nodes, net.site, authority, keys)


def _start_control_plane(cluster: Cluster) -> None:
    files = {
        **machine_files.control_plane_files(cluster.address),
        **cluster.components(control_plane.CONTROLLER_MANAGER, control_plane.SCHEDULER),
        **{f"{FOLDER}/keys/{file.name}": file.read_text() for file in cluster.keys.folder.iterdir()},
    }
    _start(cluster, CONTROL_PLANE, 0, "cp", files)


def _start_node(cluster: Cluster, node: Node, gpus: int) -> None:
    files: dict[str, str | bytes] = {
        **machine_files.node_files(node, [other for other in cluster.nodes if other != node], cluster.site),
        **machine_files.registry_files(site.REGISTRY, cluster.authority),
        **cluster.components(node.user, PROXY),
        f"{FOLDER}/ca.crt": cluster.keys.authority.read_text(),
        machine_files.PAUSE: pause_image.archive(build.binary("pause").read_bytes()),
    }
    _start(cluster, node.name, gpus, "node", files)


def _start(cluster: Cluster, name: str, gpus: int, part: str, files: Mapping[str, str | bytes]) -> None:
    """Create a machine that has one of the programs, put the files onto it, and boot it."""
    mounts = {build.binary(part).parent: machine_files.PROGRAMS}
    container, _ = machine.make(cluster.lab, name, image.recipe().tag, gpus, cluster.folder, VOLUMES, mounts)
    docker("cp", "-", f"{container}:/", stdin=machine_files.archive(files))
    docker("start", container)


def await_api_server(cluster: Cluster) -> None:
    """Wait until the API server answers. Raises LabError with the end of its journal."""
    question = shlex.join([*_kubectl(cluster.kubeconfig), "get", "--raw=/readyz"])
    try:
        run("timeout", str(READY), "sh", "-c", f"until {question} >/dev/null 2>&1; do sleep 0.5; done")
    except LabError:
        journal = _journal(cluster, CONTROL_PLANE, "kube-apiserver")
        raise LabError(f"start the control plane: no answer of its API server within {READY} s:\n{journal}") from None


def await_node(cluster: Cluster, node: Node, gpus: int) -> None:
    """Wait until a node is ready and offers its GPUs, and label it as AMD's labeller does."""
    conditions = ["create", "condition=Ready", *([f"jsonpath={ALLOCATABLE}={gpus}"] if gpus else [])]
    name = f"node/{node.name}"
    try:
        for condition in conditions:
            wait = ("wait", f"--for={condition}", f"--timeout={READY}s", name)
            kubectl(cluster.kubeconfig, *wait, timeout=2 * READY)
    except LabError as error:
        raise LabError(f"{error}\n{_journal(cluster, node.name, 'kubelet')}") from None
    if gpus:
        labels = (f"{key}={text}" for key, text in LABELS.items())
        kubectl(cluster.kubeconfig, "label", "--overwrite", name, *labels)


def _journal(cluster: Cluster, name: str, unit: str) -> str:
    return docker(
        "exec", f"{cluster.lab}-{name}", "journalctl", f"--unit={unit}", "--lines=8", "--no-pager", "--output=cat"
    )


def _list(objects: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()


def _write(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
