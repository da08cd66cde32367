"""What a lab's site has for machines that become a cluster of their own, by the role kubernetes: Kubernetes' packages and images.

All of it stands in, and says so: packages and images hold the programs of lab.kubernetes.build. Also the files that make a lab node bear a
kubelet. Needs a site (lab.site). Called by the tests.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import machine, network, site
from lab.commands import docker, run, step
from lab.images import kubernetes as node_image
from lab.kubernetes import build, machine_files, oci, pause_image, site_packages
from lab.kubernetes.cluster import LABELS, VOLUMES
from lab.kubernetes.oci import Image, Link

REPOSITORY = f"{site.REGISTRY}/lab/kubernetes"  # of the images in the site's registry
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The lab's runtime for containers in containers, by the name that containerd looks for first. This machine may lack CAP_SYS_RESOURCE,
# without which no process can lower its oom_score_adj.
RUNTIME = """#!/usr/bin/python3
import json, os, pathlib, sys

arguments = sys.argv[1:]
bundle = next((arguments[place + 1] for place, word in enumerate(arguments) if word in ("-b", "--bundle")), ".")
file = pathlib.Path(bundle, "config.json")
if "create" in arguments and file.exists():
    config = json.loads(file.read_text())
    least = int(pathlib.Path("/proc/self/oom_score_adj").read_text())
    wanted = config.get("process", {}).get("oomScoreAdj")
    if wanted is not None and wanted < least:
        config["process"]["oomScoreAdj"] = least
        file.write_text(json.dumps(config))
os.execv("/usr/local/sbin/lab-runc", ["lab-runc", *arguments])
"""


def create_node(lab: str, name: str, gpus: int, folder: Path) -> dict[str, Any]:
    """Create a bare Ubuntu 24.04 that can bear a kubelet, as machine.create does. Its driver is built already: it boots with GPUs."""
    kernel = node_image.FILES
    files: dict[str, bytes | Link] = {
        "usr/local/sbin/runc": RUNTIME.encode(),
        "usr/local/sbin/lab-kernel": (kernel / "lab-kernel").read_bytes(),
        "etc/systemd/system/lab-kernel.service": (kernel / "lab-kernel.service").read_bytes(),
        "etc/systemd/system/multi-user.target.wants/lab-kernel.service": Link("../lab-kernel.service"),
    }
    driver = f"usr/lib/modules/{os.uname().release}/updates/dkms/amdgpu.ko"
    built = {driver: b"version=6.16.13\nsrcversion=0A1B2C3D4E5F60718293A4B\n"} if gpus else {}
    whole = oci.tar({**files, **built}, mode=0o755)
    return machine.create(lab, name, node_image.SYSTEM, gpus, folder, volumes=VOLUMES, files=whole)


def supply(lab: str, authority: str, modules: Sequence[str] = (build.PRESENT,)) -> dict[str, Any]:
    """Put packages and images on a lab's site. Return the variables of the role kubernetes that name them, of the lab's version.

    `authority` is the certificate of the site's registry; `modules` are the versions, the lab's the last.
    """
    build.ensure("pause", "addons")
    for module in modules:
        build.ensure("cp", "node", "kubeadm", module=module)
    net = network.find(lab)
    assert net  # the site made it
    registry = oci.Registry(site.REGISTRY, net.site, authority)
    with step("publish Kubernetes' packages on the site"):
        facts = _publish(lab, modules)
    with step("push Kubernetes' images to the site's registry"):
        images = _push_addons(registry)
        for module in modules:
            images |= _push(registry, module)
    return {
        "kubernetes_version": build.version().removeprefix("v"),
        "kubernetes_repository_url": site_packages.URL,
        "kubernetes_repository_key": facts["key"],
        "kubernetes_key_fingerprint": facts["fingerprint"],
        "kubernetes_registry_certificates": {site.REGISTRY: authority},
        "kubernetes_image_repository": REPOSITORY,
        "kubernetes_pause_image": images["pause"],
        "kubernetes_network_image": images["kube-router"],
        "kubernetes_device_plugin_image": images["device-plugin"],
        "kubernetes_labeller_image": images["labeller"],
        **PLATFORM,
        # The site answers for the names of the lab, as CoreDNS would ask it.
        "kubernetes_kubelet_options": {**PLATFORM["kubernetes_kubelet_options"], "clusterDNS": [net.site]},
    }


# What a container in a container cannot do, or this machine's kernel does not have. On a machine none of this is set.
PLATFORM: Mapping[str, Any] = {
    "kubernetes_dns": False,  # no image of CoreDNS
    "kubernetes_ignored_checks": [
        "SystemVerification",
        "Swap",
        "Mem",
        "NumCPU",
        "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables",
    ],
    "kubernetes_cgroup_driver": "cgroupfs",
    "kubernetes_system_reserved": {"cpu": "250m", "memory": "128Mi"},
    "kubernetes_kube_reserved": {"cpu": "250m", "memory": "128Mi"},
    "kubernetes_kubelet_options": {
        "failCgroupV1": False,
        "oomScoreAdj": 0,
        "failSwapOn": False,
        "protectKernelDefaults": True,  # it changes no setting of this machine; lab-kernel shows it the wanted ones
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "5s",
    },
    "kubernetes_proxy_options": {
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "oomScoreAdj": 0,
    },
}


def _publish(lab: str, modules: Sequence[str]) -> dict[str, str]:
    """Send the programs to the site, which makes packages of them; return the repository's {key, fingerprint}."""
    container = site.name(lab)
    versions = {build.version(module).removeprefix("v"): module for module in modules}
    for version, module in versions.items():
        folder = f"{site_packages.PROGRAMS}/{version}"
        docker("exec", container, "mkdir", "-p", folder)
        for part in ("kubeadm", "node"):
            docker("cp", str(build.binary(part, module)), f"{container}:{folder}/{part}")
    script = Path(site_packages.__file__).read_bytes()
    facts: dict[str, str] = json.loads(
        docker("exec", "--interactive", container, "python3", "-", *versions, stdin=script)
    )
    docker("exec", container, "rm", "-r", str(site_packages.PROGRAMS))
    return facts


def _push(registry: oci.Registry, module: str) -> dict[str, str]:
    """Push every image of kubeadm's list of one version; return references by digest."""
    programs = {part: build.binary(part, module).read_bytes() for part in ("cp", "node")}
    commands = {f"usr/local/bin/{name}": Link("cp") for name in CONTROL_PLANE}
    control_plane = Image({"usr/local/bin/cp": programs["cp"], **commands}, {"Env": [PATH]})
    proxy = {
        "usr/local/bin/node": programs["node"],
        "usr/local/bin/kube-proxy": Link("node"),
        **_node_programs("/usr/sbin/nft"),
        # Else nft prints numbers, which kube-proxy at its next start takes for other entries than its own, and deletes.
        "etc/protocols": b"icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nsctp 132 SCTP\n",
    }
    images = {
        **dict.fromkeys(CONTROL_PLANE, control_plane),
        "kube-proxy": Image(proxy, {"Env": [PATH]}),
        "pause": pause_image.image(build.binary("pause").read_bytes()),
    }
    listed = {name: tag for name, tag in _listed(module).items() if name in images}  # CoreDNS is not among them
    return {name: registry.push(images[name], _path(name), tag) for name, tag in listed.items()}


def _push_addons(registry: oci.Registry) -> dict[str, str]:
    """Push network engine, device plugin and labeller; return references by digest."""
    addons: dict[str, bytes | Link] = {
        "root/addons": build.binary("addons").read_bytes(),
        "root/k8s-node-labeller": Link("addons"),
        "root/kube-router": Link("addons"),
        # The role's objects copy a file in kube-router's image.
        "bin/sh": Link("../usr/bin/dash"),
        **_node_programs("/usr/bin/dash", "/usr/bin/cp", "/usr/bin/mv"),
    }
    plugin = ["/root/addons", "device-plugin", "/var/lib/kubelet/device-plugins", machine_files.GPU]
    processes: dict[str, dict[str, Any]] = {
        "kube-router": {"Entrypoint": ["/root/kube-router"], "Env": [PATH]},
        "device-plugin": {"WorkingDir": "/root", "Cmd": plugin},
        "labeller": {"WorkingDir": "/root", "Env": [f"LAB_LABELS={json.dumps(LABELS)}"]},
    }
    return {name: registry.push(Image(addons, process), _path(name), "lab") for name, process in processes.items()}


def _listed(module: str) -> dict[str, str]:
    """Return the images that kubeadm pulls, by the last part of their names: the tag of each."""
    form = ("--image-repository=listed", f"--kubernetes-version={build.version(module)}")
    names = run(str(build.binary("kubeadm", module)), "config", "images", "list", *form).splitlines()
    return {name.removeprefix("listed/").partition(":")[0]: name.partition(":")[2] for name in names}


def _path(name: str) -> str:
    """Return the path of an image in its registry."""
    return f"{REPOSITORY.partition('/')[2]}/{name}"


def _node_programs(*paths: str) -> dict[str, bytes | Link]:
    """Return programs with their libraries from the image of a Kubernetes node."""
    container = docker("create", "--pull=never", node_image.recipe().tag)
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = {path.lstrip("/"): _copied(container, path, folder) for path in paths}
            linker = _copied(container, "/lib64/ld-linux-x86-64.so.2", folder)
            waiting = list(files.values())
            while waiting:
                for name in _needed(waiting.pop()):
                    path = f"{LIBRARIES.lstrip('/')}/{name}"
                    if path not in files:
                        files[path] = _copied(container, f"{LIBRARIES}/{name}", folder)
                        waiting.append(files[path])
            return {"lib64/ld-linux-x86-64.so.2": linker, **files}
    finally:
        docker("rm", container)


def _copied(container: str, path: str, folder: str) -> bytes:
    file = Path(folder) / Path(path).name
    docker("cp", "--follow-link", f"{container}:{path}", str(file))
    return file.read_bytes()


def _needed(program: bytes) -> list[str]:
    """Return the libraries that a program or library names."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(program)
        file.flush()
        lines = run("objdump", "-p", file.name).splitlines()
    return [words[1] for line in lines if (words := line.split())[:1] == ["NEEDED"]]
