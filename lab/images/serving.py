"""The base of the lab's serving image: vLLM for the CPU on Debian 12, where AMD's image is vLLM for the GPU on Ubuntu.

Called by lab.build, and by site.py, which pushes it into the site's registry.
"""

import shutil
from pathlib import Path

from lab import cache
from lab.commands import step
from lab.images import rootfs, torch
from lab.images.rootfs import Recipe

FILES = Path(__file__).with_name("serving")
LOCK = FILES / "lock.txt"
UV = "uv==0.13.9"  # installs the wheels, three times faster than pip; not in the image
# Debug information is a fifth of the image, in every pull. Other wheels' libraries keep theirs: strip breaks what patchelf has changed.
STRIP = """cd "$1"/opt/venv/lib/python3.11/site-packages && find vllm torch -name '*.so' -exec strip --strip-unneeded {} +"""
# As bare as a vendor's image: no home, no caches, no switches. Role vllm supplies what the server needs.
ENVIRONMENT = {"PATH": "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def recipe(wheels: Path | None = None) -> Recipe:
    """Return the recipe. The image's name is the same with and without the wheels, since it covers their lock."""
    return Recipe(
        name="vllm-cpu",
        suite="bookworm",
        packages=["ca-certificates", "python3", "libnuma1", "git"],
        files=[file for file in sorted(FILES.iterdir()) if file.name != "setup.sh"],
        bulk=[wheels] if wheels else [],
        pins=[UV, torch.VERSION, cache.key([torch.RULES])],
        setup=(FILES / "setup.sh").read_text(),
        config=[
            *(f"ENV {name}={value}" for name, value in ENVIRONMENT.items()),
            "EXPOSE 8000",
            'ENTRYPOINT ["vllm", "serve"]',
        ],
        finish=[STRIP],
        variant="minbase",
        sources=False,
        portable=True,
    )


def build() -> None:
    """Fetch the wheels and build the image."""
    wheels = fetch_wheels()
    with step("build the serving image's base"):
        rootfs.build(recipe(wheels))


def fetch_wheels() -> Path:
    """Return a folder `wheels` with the locked wheels, torch for the CPU, and uv."""
    folder = cache.folder() / f"wheels-{cache.key([LOCK, torch.RULES], UV)}"
    if not folder.exists():
        with cache.making(folder) as work:
            wheels = work / "wheels"
            wheels.mkdir()
            with step("fetch vLLM's wheels (0.4 GB)"):
                torch.fetch([line for line in LOCK.read_text().splitlines() if not line.startswith("torch==")], wheels)
                torch.fetch([UV], wheels)
            shutil.copy(torch.wheel(next(wheels.glob("torchvision-*.whl"))), wheels)
    return folder / "wheels"
