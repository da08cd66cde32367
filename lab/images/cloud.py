"""The image of a droplet of the lab's cloud: a lab node with the real cloud-init, which reads its user data from a folder (NoCloud).

Called by lab.cloud. Like a cloud's image, it chooses cloud-init's modules: here those that make users and keys.
"""

import fcntl
from dataclasses import replace

from lab import cache
from lab.commands import step
from lab.images import node, rootfs
from lab.images.rootfs import Recipe

SEED = "/var/lib/cloud/seed/nocloud"
# cloud-init leaves alone what a container lacks (disks, its own network), and the sources of its packages.
CONFIG = """
datasource_list: [NoCloud]
network: {config: disabled}
preserve_hostname: true
apt: {preserve_sources_list: true}
cloud_init_modules: [write_files, users_groups, ssh, set_passwords]
cloud_config_modules: []
cloud_final_modules: []
"""
SETUP = f"""
cat > /etc/cloud/cloud.cfg.d/99-lab.cfg <<'CONFIG'
{CONFIG.strip()}
CONFIG
mkdir -p {SEED}
"""


def recipe(system: str) -> Recipe:
    """Return the recipe of a system's droplet."""
    bare = node.recipe(system)
    packages = [*bare.packages, "cloud-init"]
    return replace(bare, name=f"cloud-{system}", packages=packages, setup=f"{bare.setup}{SETUP}")


def ensure(system: str) -> str:
    """Return the tag of a system's image, and build the image when the Docker daemon lacks it."""
    droplet = recipe(node.available(system))
    with (cache.folder() / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not rootfs.exists(droplet.tag):
            with step(f"build the droplet {system}"):
                rootfs.build(droplet)
    return droplet.tag
