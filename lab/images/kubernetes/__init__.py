"""The image of a Kubernetes node of the lab: its Ubuntu 24.04 node with a driver, containerd, and what the kubelet and kube-proxy call.

The control plane has the same image. Kubernetes' own programs are not in it: lab.kubernetes.machines mounts them. Called by lab.build.
"""

from pathlib import Path

from lab.images import node
from lab.images.rootfs import Recipe

FILES = Path(__file__).parent
SYSTEM = "ubuntu-24.04"
PACKAGES = ["containerd", "runc", "containernetworking-plugins", "conntrack", "nftables", "ipset"]
RENDER_GROUP = 880  # the number of the group of /dev/dri/renderD*: outside of what the system's own groups get


def recipe() -> Recipe:
    """Return the recipe of a Kubernetes node."""
    base = node.recipe(SYSTEM)
    own = [
        file for file in sorted(FILES.iterdir()) if file.is_file() and file.suffix != ".py" and file.name != "setup.sh"
    ]
    setup = f"{base.setup}RENDER_GROUP={RENDER_GROUP}\n{(FILES / 'setup.sh').read_text()}"
    return Recipe(
        name=f"kubernetes-{SYSTEM}",
        suite=base.suite,
        packages=[*base.packages, *PACKAGES],
        files=[*base.files, *own],
        setup=setup,
        config=base.config,
    )
