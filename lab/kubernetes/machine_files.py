"""The files that make a container of the node's image a node of a cluster, or its control plane: settings, units, the pods' network.

Pure: paths below / and their texts. Called by lab.kubernetes.cluster.
"""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.kubernetes import control_plane
from lab.kubernetes.pki import Keys

PROGRAMS = "/opt/kubernetes"  # where the programs are mounted
FOLDER = "etc/kubernetes"
PROXY = "system:kube-proxy"
KEYS = Keys(Path(f"/{FOLDER}/keys"))
API_PORT, ETCD_PORT, ETCD_PEERS = 6443, 2379, 2380
PAUSE = f"{FOLDER}/pause.tar"
PODS = "10.244.0.0/16"
GPU = "amd.com/gpu"
DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Node:
    """A node of a cluster: its name, its address, and its number, which gives its pods their subnet."""

    name: str
    address: str
    number: int

    @property
    def user(self) -> str:
        """Its kubelet's user."""
        return f"system:node:{self.name}"

    @property
    def pods(self) -> str:
        """The addresses of its pods."""
        return f"10.244.{self.number}.0/24"


def kubeconfig_path(user: str) -> str:
    """Return where a component, which is a user of the API server, finds its kubeconfig."""
    return f"{FOLDER}/{user.rpartition(':')[2]}.kubeconfig"


def control_plane_files(address: str) -> dict[str, str]:
    """Return the files of a control plane at this address, but for its keys and kubeconfigs."""
    manager, scheduler = (
        Path("/", kubeconfig_path(user)) for user in (control_plane.CONTROLLER_MANAGER, control_plane.SCHEDULER)
    )
    commands = [
        control_plane.etcd(Path("/var/lib/etcd"), ETCD_PORT, ETCD_PEERS),
        control_plane.api_server(KEYS, address, API_PORT, ETCD_PORT, "--allow-privileged=true"),
        # 50 s by default, which a test of a lost node would wait for.
        control_plane.controller_manager(KEYS, manager, "--node-monitor-grace-period=20s"),
        control_plane.scheduler(scheduler),
    ]
    return {_unit_path(command[0]): _unit([f"{PROGRAMS}/cp", *command]) for command in commands}


def node_files(node: Node, others: Sequence[Node], site: str) -> dict[str, str]:
    """Return the files of a node, but for its kubeconfigs. Its pods reach those of the `others`, and ask the site for names."""
    kubelet = [
        f"{PROGRAMS}/node",
        "kubelet",
        f"--config=/{FOLDER}/kubelet.json",
        f"--kubeconfig=/{kubeconfig_path(node.user)}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    ]
    proxy = [
        f"{PROGRAMS}/node",
        "kube-proxy",
        f"--config=/{FOLDER}/kube-proxy.json",
        f"--hostname-override={node.name}",
    ]
    plugin = [f"{PROGRAMS}/node", "device-plugin", "/var/lib/kubelet/device-plugins", GPU]
    imported = f"/usr/bin/ctr --namespace=k8s.io images import /{PAUSE}"
    return {
        f"{FOLDER}/kubelet.json": json.dumps(_kubelet(site), indent=1),
        f"{FOLDER}/kube-proxy.json": json.dumps(_kube_proxy(), indent=1),
        f"{FOLDER}/resolv.conf": f"nameserver {site}\n",
        f"{FOLDER}/routes": "".join(f"route replace {other.pods} via {other.address}\n" for other in others),
        f"{FOLDER}/pods.nft": MASQUERADE,
        "etc/cni/net.d/10-lab.conflist": json.dumps(_network(node), indent=1),
        _unit_path("kubelet"): _unit(kubelet, before=imported),
        _unit_path("kube-proxy"): _unit(proxy),
        _unit_path("device-plugin"): _unit(plugin),
    }


def registry_files(registry: str, authority: str) -> dict[str, str]:
    """Return the files with which containerd trusts the authority of a registry (host:port)."""
    folder = f"etc/containerd/certs.d/{registry}"
    trust = f'server = "https://{registry}"\n[host."https://{registry}"]\n  ca = "/{folder}/ca.crt"\n'
    return {f"{folder}/hosts.toml": trust, f"{folder}/ca.crt": authority}


# What leaves the cluster has the node's address: the lab's network knows no address of a pod.
MASQUERADE = f"""add table ip lab-pods
flush table ip lab-pods
table ip lab-pods {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {PODS} ip daddr != {{ {PODS}, {control_plane.SERVICES} }} masquerade
  }}
}}
"""


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """Return a tar archive of the files, which only root may read, with a link for each unit that starts it at boot."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644 if path.endswith(".service") else 0o600
            tar.addfile(entry, io.BytesIO(data))
            if path.endswith(".service"):
                folder, _, name = path.rpartition("/")
                link = tarfile.TarInfo(f"{folder}/multi-user.target.wants/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, f"../{name}"
                tar.addfile(link)
    return buffer.getvalue()


def _kubelet(site: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,  # this machine may have v1 alone
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"/{FOLDER}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "oomScoreAdj": 0,  # without CAP_SYS_RESOURCE none can be lower
        "failSwapOn": False,
        "enforceNodeAllocatable": ["pods"],
        # All nodes share this machine's memory and disk: its fill is no reason to evict.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 30,
        "nodeStatusUpdateFrequency": "5s",
        "protectKernelDefaults": True,  # it changes no setting of this machine; lab-kernel shows it the wanted ones
        "clusterDNS": [site],
        "clusterDomain": DOMAIN,
        "resolvConf": f"/{FOLDER}/resolv.conf",
    }


def _kube_proxy() -> dict[str, Any]:
    untouched = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"/{kubeconfig_path(PROXY)}"},
        "clusterCIDR": PODS,
        "conntrack": untouched,  # those settings are this machine's
        "oomScoreAdj": 0,
    }


def _network(node: Node) -> dict[str, Any]:
    """Return the pods' network: each pod has a link to its node, which routes. NetworkPolicies have no effect in it."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",  # a node that boots has no pod
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "ptp", "mtu": 1500, "ipam": addresses}]}


def _unit_path(name: str) -> str:
    return f"etc/systemd/system/{name}.service"


def _unit(command: Sequence[str], before: str = "") -> str:
    lines = [
        "[Unit]",
        "Wants=containerd.service lab-kernel.service",
        "After=containerd.service lab-kernel.service",
        "StartLimitIntervalSec=0",
        "[Service]",
        *([f"ExecStartPre={before}"] if before else []),
        f"ExecStart={' '.join(command)}",
        "Restart=always",
        "RestartSec=1",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"
