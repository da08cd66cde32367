"""The image of a lab's site: its services (site/), with the serving image's base in their registry.

The build pushes the base once, so every site's container starts with a full registry; what a stack pushes later disappears with the
container. Called by lab.build and lab.site.
"""

import sys
from pathlib import Path

from lab import cache
from lab.commands import docker, run, step
from lab.images import rootfs, serving
from lab.images.rootfs import Recipe

FILES = Path(__file__).with_name("site")
TRANSFORMERS = "5.19.0"
BASE = "lab/vllm"  # the base's repository in the site's registry
DIGEST = f"{cache.LABEL}.base"  # label of the site's image with the base's digest


def recipe() -> Recipe:
    """Return the recipe of the services, without the pushed base."""
    return Recipe(
        name="services",
        suite="bookworm",
        packages=["ca-certificates", "python3", "git", "docker-registry", "apt-utils", "gpg", "gpg-agent", "openssl"],
        files=[*sorted(FILES.glob("*.py")), source()],
        setup=(FILES / "setup.sh").read_text(),
        config=['ENTRYPOINT ["/usr/local/sbin/site"]'],
        variant="minbase",
        sources=False,
    )


def source() -> Path:
    """Return the source distribution of transformers. Fetches it once."""
    folder = cache.folder() / f"transformers-{TRANSFORMERS}"
    if not folder.exists():
        with step(f"fetch the source of transformers {TRANSFORMERS}"), cache.making(folder) as work:
            form = ["--no-deps", "--no-binary=transformers", f"transformers=={TRANSFORMERS}"]
            run(sys.executable, "-m", "pip", "download", "-q", "-d", str(work), *form)
    return next(folder.glob("transformers-*.tar.gz"))


def tag() -> str:
    """Return the name of the complete image."""
    return f"{cache.IMAGES}/site:{cache.key([], recipe().tag, serving.recipe().tag)}"


def digest() -> str:
    """Return the digest of the base in the site's registry, "sha256:…"."""
    return docker("image", "inspect", "-f", f'{{{{index .Config.Labels "{DIGEST}"}}}}', tag())


def build_services() -> None:
    """Build the services, without the pushed base."""
    with step("build the site's services"):
        rootfs.build(recipe())


def build() -> None:
    """Push the serving image's base into the services' registry, and commit the result as the site's image. Needs both images."""
    with step("push the serving image's base into the site's registry"):
        _commit(recipe().tag, serving.recipe().tag)


def _commit(services: str, base: str) -> None:
    publish = ("--publish=127.0.0.1::5000", f"--label={cache.LABEL}=build")
    name = docker("run", "--detach", *publish, services, "registry")
    reference = f"{docker('port', name, '5000/tcp').splitlines()[0]}/{BASE}:base"
    try:
        run(
            "timeout",
            "60",
            "sh",
            "-c",
            f"until docker exec {name} python3 -c '{LISTENS}'; do sleep 0.2; done 2>/dev/null",
        )
        docker("tag", base, reference)
        output = docker("push", reference)
        base_digest = next(word for word in output.split() if word.startswith("sha256:"))
        docker("stop", name)
        changes = (f"LABEL {DIGEST}={base_digest}", f"LABEL {cache.LABEL}=image", "CMD []")
        docker("commit", *(f"--change={change}" for change in changes), name, tag())
    finally:
        docker("rm", "--force", "--volumes", name)
        if rootfs.exists(reference):
            docker("image", "rm", reference)


LISTENS = 'import socket; socket.create_connection(("127.0.0.1", 5000))'
