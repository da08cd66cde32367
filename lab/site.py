"""A lab's site: one container with the mirrors, the registry, the git server and the hub that its nodes use.

Owns the network, the site's container, the lab's folder with its keys. Needs a Docker daemon and the images of lab.build.
Called by the lab's plugin (lab/provider) and by the tests. `remove` removes everything of the lab, by its label.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import build, keys, network
from lab.commands import LabError, docker, run
from lab.images import site as image
from lab.model import untrained

CHECKPOINT = Path(__file__).with_name("model") / "checkpoint"
MODEL = "lab/GLM-4.6V"  # the model's name on the hub; the checkpoint is its `main`
REGISTRY = "registry.lab.internal:5000"
NAMES = tuple(f"{part}.lab.internal" for part in ("packages", "git", "hub", "archive", "registry"))
READY = 120  # seconds until everything must listen


def create(lab: str, systems: Sequence[str], folder: Path, sealed: bool = False) -> dict[str, Any]:
    """Create the network and the site, replacing an old site. Return {network, subnet, gateway, address, identity, vars}.

    In a sealed lab only the site has a way out, like a mirror.
    """
    build.ensure(systems)
    net = network.make(lab, sealed)
    remove_container(lab, name(lab))
    place = (f"--name={name(lab)}", "--hostname=site", f"--network={lab}", f"--ip={net.site}")
    aliases = (f"--network-alias={alias}" for alias in NAMES)
    options = ("--init", "--restart=always", f"--label={network.label(lab)}")
    docker("create", "--pull=never", *place, *aliases, *options, image.tag())
    with hub() as models:
        docker("cp", f"{models}/.", f"{name(lab)}:/srv/hub/")
    if sealed:
        docker("network", "connect", "bridge", name(lab))
    docker("start", name(lab))
    facts = _facts(lab)
    identity = folder / "id_ed25519"
    keys.make(identity, f"{lab}, a lab of glm-fleet")
    return {
        "network": lab,
        "subnet": net.subnet,
        "gateway": net.gateway,
        "address": net.site,
        "identity": str(identity),
        "vars": {
            "docker_registry_certificates": {REGISTRY: facts["authority"]},
            "rocm_repository_key": facts["key"],
            "rocm_key_fingerprint": facts["fingerprint"],
            "transformers_base_image": f"{REGISTRY}/{image.BASE}@{image.digest()}",
            "transformers_commit": facts["commit"],
            "weights_revision": revision(CHECKPOINT),
            "weights_manifest": sums(CHECKPOINT),
        },
    }


def name(lab: str) -> str:
    """Return the name of the site's container."""
    return f"{lab}-site"


def exists(lab: str) -> bool:
    """Whether the site's container exists."""
    return bool(containers(lab, f"name=^{name(lab)}$"))


def containers(lab: str, *filters: str) -> list[str]:
    """Return the ids of the lab's containers, running or not."""
    conditions = (f"label={network.label(lab)}", *filters)
    return docker("ps", "--all", "--quiet", *(f"--filter={condition}" for condition in conditions)).split()


def remove_container(lab: str, container: str) -> None:
    """Remove one container of this lab and its named volumes. Raises LabError when the container is not this lab's."""
    if ids := containers(lab, f"name=^{container}$"):
        docker("rm", "--force", "--volumes", *ids)
    elif docker("ps", "--all", "--quiet", f"--filter=name=^{container}$"):
        raise LabError(
            f"a container {container} exists that is not of this lab\n  wanted: a free name"
            f"\n  next:   another `name` in glm-fleet:nodes, or `docker rm` it"
        )
    volumes = docker("volume", "ls", "--quiet", f"--filter=label={network.label(lab)}").split()
    if container_volumes := [volume for volume in volumes if volume.startswith(f"{container}-")]:
        docker("volume", "rm", *container_volumes)


def remove(lab: str, folder: Path) -> None:
    """Remove everything of a lab: containers, volumes, network, keys. What has no label of this lab stays."""
    if ids := containers(lab):
        docker("rm", "--force", "--volumes", *ids)
    if volumes := docker("volume", "ls", "--quiet", f"--filter=label={network.label(lab)}").split():
        docker("volume", "rm", *volumes)
    if network.find(lab):
        docker("network", "rm", lab)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def hub() -> Iterator[Path]:
    """Yield a folder with the hub's models: the checkpoint as `main`, and an untrained one for a test."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "srv" / MODEL
        repository.mkdir(parents=True)
        shutil.copytree(CHECKPOINT, repository / revision(CHECKPOINT))
        untrained.make(CHECKPOINT, repository / "new")
        (repository / "new").rename(repository / untrained_revision())
        (repository / "main").symlink_to(revision(CHECKPOINT))
        for path in Path(folder).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield Path(folder) / "srv"


def revision(folder: Path) -> str:
    """Return 40 hex digits over names and contents, in the form of a hub's commit."""
    digest = hashlib.sha1()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def sums(folder: Path) -> dict[str, str]:
    """Return {file: sha256}, the form of weights_manifest."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def untrained_revision() -> str:
    """Return the revision of the model that answers /health and sees nothing."""
    return hashlib.sha1(f"untrained {revision(CHECKPOINT)}".encode()).hexdigest()


def untrained_sums() -> dict[str, str]:
    """Return {file: sha256} of that model."""
    with hub() as models:
        return sums(models / MODEL / untrained_revision())


def break_registry(lab: str) -> None:
    """Let the registry answer 500."""
    docker("kill", "--signal=USR1", name(lab))


def mend_registry(lab: str) -> None:
    """Let the registry work again."""
    docker("kill", "--signal=USR2", name(lab))


def set_faults(lab: str, faults: dict[str, Any]) -> None:
    """Switch faults of hub and git on, or off with {}. lab/images/site/hub.py lists them."""
    docker("exec", "--interactive", name(lab), "sh", "-c", "cat > /srv/faults.json", stdin=json.dumps(faults).encode())


def _facts(lab: str) -> dict[str, str]:
    """Wait until everything listens, then return what the site reports (FACTS in lab/images/site/site.py)."""
    wait = f"until docker exec {name(lab)} cat /srv/site.json 2>/dev/null; do sleep 0.2; done"
    try:
        facts: dict[str, str] = json.loads(run("timeout", str(READY), "sh", "-c", wait))
    except LabError:
        logs = docker("logs", "--tail=8", name(lab))
        raise LabError(f"start the site {name(lab)}: not ready within {READY} s:\n{logs}") from None
    return facts
