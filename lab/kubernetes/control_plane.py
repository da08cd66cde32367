"""The command lines of a control plane, as processes of one machine or in a container.

Pure. Called by lab.kubernetes.cluster and tests/support/api_server.py.
"""

from pathlib import Path

from lab.kubernetes.pki import Keys

SERVICES = "10.96.0.0/16"  # the addresses of services
ISSUER = "https://kubernetes.default.svc"
CONTROLLER_MANAGER, SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"


def etcd(data: Path, port: int, peers: int) -> list[str]:
    """Return the command of etcd on the loopback. It does not wait for the disk: for a lab only."""
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    options = {
        "data-dir": str(data),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "log-level": "error",
    }
    return ["etcd", "--unsafe-no-fsync", *_flags(options)]


def api_server(keys: Keys, address: str, port: int, etcd_port: int, *more: str) -> list[str]:
    """Return the command of the API server, which listens on `address`."""
    options = {
        "etcd-servers": f"http://127.0.0.1:{etcd_port}",
        "bind-address": address,
        "advertise-address": address,
        "secure-port": str(port),
        "tls-cert-file": str(keys.server),
        "tls-private-key-file": str(keys.server),
        "client-ca-file": str(keys.authority),
        "token-auth-file": str(keys.tokens),
        "kubelet-client-certificate": str(keys.kubelets_client),
        "kubelet-client-key": str(keys.kubelets_client),
        "kubelet-preferred-address-types": "InternalIP",
        "service-cluster-ip-range": SERVICES,
        "service-account-issuer": ISSUER,
        "service-account-key-file": str(keys.accounts),
        "service-account-signing-key-file": str(keys.accounts),
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
    }
    return ["kube-apiserver", *_flags(options), *more]


def controller_manager(keys: Keys, kubeconfig: Path, *more: str) -> list[str]:
    """Return the command of the controller manager."""
    options = {
        "kubeconfig": str(kubeconfig),
        "service-account-private-key-file": str(keys.accounts),
        "root-ca-file": str(keys.authority),
        "leader-elect": "false",
        "secure-port": "0",
        "use-service-account-credentials": "true",
    }
    return ["kube-controller-manager", *_flags(options), *more]


def scheduler(kubeconfig: Path) -> list[str]:
    """Return the command of the scheduler."""
    return ["kube-scheduler", *_flags({"kubeconfig": str(kubeconfig), "leader-elect": "false", "secure-port": "0"})]


def _flags(options: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]
