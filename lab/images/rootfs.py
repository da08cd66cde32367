"""Build an image from a distribution's signed archive: mmdebstrap, its hooks, `docker import`. No Dockerfile, so any Docker daemon will do.

Needs mmdebstrap (root installs it here) and this machine's apt configuration, which names Debian's archive. Called by the recipes
beside this file.
"""

import contextlib
import functools
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import cache
from lab.commands import LabError, docker, run, works

DEBIAN = ("bookworm", "trixie")
# Debian's debootstrap knows the address of Ubuntu's archive: its shell script passes it to this function.
UBUNTU = 'default_mirror() { echo "$1"; }; ARCH=amd64; SUITE=noble; . /usr/share/debootstrap/scripts/gutsy 2>/dev/null'
# Debian 13's package of Ubuntu's keys (Debian 12 has none), with the sum from Debian's index.
KEYRING = "pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1-0.2_all.deb"
KEYRING_SHA256 = "b2e7ed48431bf9e7978ae810bbdaf253093570d6e3f864e575b7c13554b81174"
APT = threading.Lock()  # apt does not wait for another apt
LEAN = (
    "--aptopt=Acquire::Languages none",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
)


@dataclass(frozen=True)
class Recipe:
    """One image: `setup` runs in its root with `files` and `bulk` in /lab, which is then removed."""

    name: str
    suite: str
    packages: Sequence[str]
    files: Sequence[Path]
    setup: str
    config: Sequence[str]  # lines of a Dockerfile that `docker import --change` takes
    variant: str = "apt"
    sources: bool = True  # keep the archive's address in the image
    bulk: Sequence[Path] = ()  # big files that the key does not read; `files` or `pins` identify their content
    pins: Sequence[str] = ()
    finish: Sequence[str] = ()  # commands on this machine after the setup; the root is "$1"
    portable: bool = False  # without this machine's kernel release and CA certificates in image and key

    @property
    def tag(self) -> str:
        """The image's name, with a key over its whole content."""
        text = (self.suite, *self.packages, self.setup, *self.config, self.variant, *self.pins, *self.finish)
        machine = () if self.portable else (os.uname().release,)
        return f"{cache.IMAGES}/{self.name}:{cache.key([*self.files, *self.certificates], *text, *machine)}"

    @property
    def certificates(self) -> Sequence[Path]:
        """The CA certificates for /lab/ca in the root."""
        return () if self.portable else extra_certificates()


def extra_certificates() -> list[Path]:
    """Return this machine's additional CA certificates. Its packages may need them, so the nodes do too."""
    return sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt"))


def exists(tag: str) -> bool:
    """Whether the Docker daemon has this image."""
    return works("docker", "image", "inspect", tag)


def build(recipe: Recipe) -> None:
    """Build the image of a recipe."""
    tag = recipe.tag  # before the build, so that later edits do not count
    need("mmdebstrap", "zstd")
    with tempfile.TemporaryDirectory(prefix="glm-fleet-lab-") as folder:
        work = Path(folder)
        work.chmod(0o755)  # apt fetches and verifies as its own user
        _gather(recipe, work / "lab")
        keyring, lines = archive(recipe.suite, work)
        hooks = [
            f'cp -rL "{work}/lab" "$1"/lab',
            'chroot "$1" env DEBIAN_FRONTEND=noninteractive HOME=/root sh -e /lab/setup',
            'rm -rf "$1"/lab "$1"/etc/ssh/ssh_host_* "$1"/var/log/apt "$1"/var/log/dpkg.log "$1"/var/log/bootstrap.log',
            'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/cache/apt/archives/*.deb',
            ': > "$1"/etc/machine-id',
            *recipe.finish,
            *([] if recipe.sources else ['rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d']),
        ]
        command = [
            *("mmdebstrap", "--mode=root", f"--variant={recipe.variant}", f"--keyring={keyring}"),
            *(f"--include={','.join(recipe.packages)}", *LEAN, *(f"--customize-hook={hook}" for hook in hooks)),
            *(recipe.suite, "-", "-"),
        ]
        _import(command, "\n".join(lines), recipe, tag)


def _gather(recipe: Recipe, folder: Path) -> None:
    """Fill a folder with links to everything that a recipe's setup needs in /lab."""
    (folder / "ca").mkdir(parents=True)
    for file in (*recipe.files, *recipe.bulk):
        (folder / file.name).symlink_to(file.resolve())
    for certificate in recipe.certificates:
        (folder / "ca" / certificate.name).symlink_to(certificate.resolve())
    (folder / "setup").write_text(recipe.setup)


def archive(suite: str, work: Path) -> tuple[Path, list[str]]:
    """Return the keyring and the sources of a suite."""
    if suite in DEBIAN:
        mirror = debian()
        lines = [f"deb {mirror} {suite} main", f"deb {mirror} {suite}-updates main"]
        return Path("/usr/share/keyrings/debian-archive-keyring.gpg"), [
            *lines,
            f"deb {mirror}-security {suite}-security main",
        ]
    pockets = (suite, f"{suite}-updates", f"{suite}-security")
    return _ubuntu_keyring(work), [f"deb {ubuntu()} {pocket} main universe" for pocket in pockets]


@functools.cache
def debian() -> str:
    """Return the address of Debian's archive from this machine's apt, which knows it after fetching the lists."""
    with APT:
        for refresh in (False, True):
            if refresh:
                run("apt-get", "update", "-qq")
            for address in run("apt-get", "indextargets", "--format", "$(REPO_URI)").splitlines():
                if address.rstrip("/").endswith("/debian"):
                    return address.rstrip("/")
    raise LabError(
        "apt knows no Debian archive\n  wanted: a source in /etc/apt\n  next:   add one, then apt-get update"
    )


@functools.cache
def ubuntu() -> str:
    """Return the address of Ubuntu's archive."""
    need("debootstrap")
    return run("sh", "-c", UBUNTU)


@functools.cache
def ubuntu_answers() -> bool:
    """Whether Ubuntu's archive answers."""
    return works("curl", "-fsS", "-m", "20", "-o", "/dev/null", f"{ubuntu()}/dists/noble/InRelease")


def installed() -> set[str]:
    """Return the packages that are installed on this machine; dpkg also lists removed and suggested ones."""
    form = "${db:Status-Status} ${Package}\n"
    lines = run("dpkg-query", "-W", "-f", form).splitlines()
    return {name for status, _, name in (line.partition(" ") for line in lines) if status == "installed"}


def need(*packages: str) -> None:
    """Install the Debian packages that this machine lacks. Raises LabError when this is not root."""
    missing = sorted({*packages} - installed())
    if not missing:
        return
    if os.geteuid():
        raise LabError(f"not on this machine: {', '.join(missing)}\n  next:   sudo apt-get install {' '.join(missing)}")
    install = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends")
    if not works(*install, *missing):
        run("apt-get", "update", "-qq")
        run(*install, *missing)


def _ubuntu_keyring(work: Path) -> Path:
    deb, keys = work / "keyring.deb", work / "keys"
    run("curl", "-fsS", "-m", "60", "-o", str(deb), f"{debian()}/{KEYRING}")
    run("sha256sum", "--check", "--quiet", "-", stdin=f"{KEYRING_SHA256}  {deb}\n".encode())
    run("dpkg-deb", "-x", str(deb), str(keys))
    return keys / "usr/share/keyrings/ubuntu-archive-keyring.gpg"


def _import(command: Sequence[str], sources: str, recipe: Recipe, tag: str) -> None:
    """Pipe the root file system into `docker import`, and tag the image only when both succeed."""
    changes = [f"--change=LABEL {cache.LABEL}=image", *(f"--change={line}" for line in recipe.config)]
    with tempfile.TemporaryFile() as log:
        maker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        taker = subprocess.Popen(
            ["docker", "import", *changes, "-"], stdin=maker.stdout, stdout=subprocess.PIPE, text=True
        )
        assert maker.stdin and maker.stdout
        maker.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # mmdebstrap ended at once; its log below has the reason
            maker.stdin.write(sources.encode())
            maker.stdin.close()
        image = taker.communicate()[0].strip()
        failed = maker.wait()
        log.seek(0)
        tail = log.read().decode(errors="replace").strip().splitlines()[-12:]
    if failed or taker.returncode:
        if image:
            docker("image", "rm", image)
        raise LabError(f"build {recipe.name}: mmdebstrap exited with {failed}:\n    " + "\n    ".join(tail))
    docker("tag", image, tag)
