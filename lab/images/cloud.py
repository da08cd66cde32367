"""The image of a droplet of the lab's cloud: a lab node's, and the real cloud-init, which gets its user data from a folder (NoCloud).

Called by lab.cloud. As a cloud's image does, it says which of cloud-init's modules run: here those that make users and keys.
"""

import fcntl
from dataclasses import replace

from lab import cache
from lab.commands import step
from lab.images import node, rootfs
from lab.images.rootfs import Recipe

SEED = "/var/lib/cloud/seed/nocloud"
# What a container lacks (disks, a network of its own) is left alone, and so is where its packages come from.
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
    """Return the tag of a system's image; it is built when the engine does not hold it."""
    droplet = recipe(node.available(system))
    with (cache.folder() / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not rootfs.exists(droplet.tag):
            with step(f"build the droplet {system}"):
                rootfs.build(droplet)
    return droplet.tag
