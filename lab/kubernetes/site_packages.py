"""Kubernetes' package repository, where a lab's site has a stand-in of it: packages that hold what lab.kubernetes.build made.

Runs twice: `publish`, on this machine, sends this file to the site, where `main` builds and signs the packages. Flat, as pkgs.k8s.io is: `deb
[signed-by=KEY] http://packages.lab.internal/kubernetes/ /`. Each package's description says that it stands in. Called by own_cluster.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

URL = "http://packages.lab.internal/kubernetes"
PROGRAMS = pathlib.Path("/srv/kubernetes")  # on the site: `kubeadm` and `node`, in a folder of each version
ROOT = pathlib.Path("/srv/packages/kubernetes")
REVISION = "-1.1"  # as of Kubernetes' own packages
ABOUT = "stands in for Kubernetes' own package: built by glm-fleet's lab from the source modules"
KUBELET = """[Unit]
Description=kubelet, a stand-in package of glm-fleet's lab
Wants=network-online.target
After=network-online.target
[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10
[Install]
WantedBy=multi-user.target
"""
# The variables and files of the package's own: kubeadm writes kubeadm-flags.env, an administrator /etc/default/kubelet.
KUBEADM = """[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""
# A version of its own, which any kubelet takes, as of Kubernetes' own packages.
CNI, OLDEST_CNI = "1.8.0", "1.2.0"
PLUGINS = ("host-local", "loopback", "portmap", "ptp")


def main(versions: list[str]) -> None:
    """Build and sign the packages of these versions; print {key, fingerprint}."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    plugins = {f"opt/cni/bin/{name}": f"/usr/lib/cni/{name}" for name in PLUGINS}
    _deb("kubernetes-cni", CNI, "containernetworking-plugins", {}, plugins)
    for version in versions:
        _build(version)
    (ROOT / "Packages").write_text(_archive("packages", "."))
    (ROOT / "Release").write_text(_archive("--option=APT::FTPArchive::Release::Origin=lab", "release", "."))
    print(json.dumps(_sign()))


def _build(version: str) -> None:
    own = f"(= {version}{REVISION})"
    unit, drop_in = "usr/lib/systemd/system/kubelet.service", "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"
    needs = f"kubernetes-cni (>= {OLDEST_CNI}), iptables, conntrack, ethtool, socat"
    _deb("kubelet", version, needs, {unit: KUBELET}, {}, "node")
    _deb("kubectl", version, f"kubelet {own}", {}, {"usr/bin/kubectl": "kubelet"})
    # Of any version, as Kubernetes' own package: in an upgrade kubeadm is new before the kubelet.
    _deb("kubeadm", version, "kubelet, kubectl", {drop_in: KUBEADM}, {}, "kubeadm")


def _deb(
    name: str, version: str, depends: str, texts: dict[str, str], links: dict[str, str], program: str = ""
) -> None:
    with tempfile.TemporaryDirectory(dir=ROOT.parent) as folder:
        root = pathlib.Path(folder)
        root.chmod(0o755)
        for path, text in texts.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        for path, target in links.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(target)
        if program:
            (root / "usr" / "bin").mkdir(parents=True)
            os.link(PROGRAMS / version / program, root / "usr" / "bin" / name)
        fields = {
            "Package": name,
            "Version": version + REVISION,
            "Architecture": "amd64",
            "Maintainer": "lab <lab@lab.internal>",
            "Depends": depends,
            "Description": ABOUT,
        }
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN" / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        command = ["dpkg-deb", "--build", "--root-owner-group", "-Znone", str(root), str(ROOT)]
        subprocess.run(command, check=True, capture_output=True)


def _archive(*words: str) -> str:
    return subprocess.run(["apt-ftparchive", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _sign() -> dict[str, str]:
    """Sign the repository with a new key; return {key, fingerprint}."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "GNUPGHOME": home}

        def gpg(*words: str) -> str:
            command = ["gpg", "--batch", "--quiet", "--yes", *words]
            return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

        gpg("--passphrase", "", "--quick-gen-key", "Lab Kubernetes <lab@lab.internal>", "ed25519", "sign", "never")
        lines = gpg("--list-keys", "--with-colons").splitlines()
        gpg("--clearsign", "--output", str(ROOT / "InRelease"), str(ROOT / "Release"))
        key = gpg("--armor", "--export")
        subprocess.run(["gpgconf", "--kill", "all"], check=True, env=environment)
    return {"key": key, "fingerprint": next(line.split(":")[9] for line in lines if line.startswith("fpr:"))}


if __name__ == "__main__":
    main(sys.argv[1:])
