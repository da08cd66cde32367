"""Install the distribution's Docker under a vendor's three package names, on the node. Arguments: ENGINE CLI RUNTIME VERSION.

The packages conflict as the real ones do (docker-ce, moby-engine). The programs are the distribution's, so the lab needs no vendor's
archive. Needs apt with fetched lists. Called by the vendors' scripts.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

START = """#!/bin/sh
set -e
getent group docker >/dev/null || groupadd --system docker
systemctl daemon-reload
systemctl enable -q containerd.service docker.service
systemctl restart containerd.service docker.service
"""


def run(*command: str, cwd: pathlib.Path) -> None:
    subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.DEVNULL)


def pack(work: pathlib.Path, name: str, version: str, fields: str, postinst: str = "") -> pathlib.Path:
    """Build a package of the folder work/name."""
    control = work / name / "DEBIAN"
    control.mkdir()
    about = "Maintainer: Lab <lab@lab.internal>\nArchitecture: amd64\nDescription: lab stand-in: the distribution's engine\n"
    (control / "control").write_text(f"Package: {name}\nVersion: {version}\n{fields}{about}")
    if postinst:
        (control / "postinst").write_text(postinst)
        (control / "postinst").chmod(0o755)
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", name, cwd=work)
    return work / f"{name}.deb"


engine, cli, runtime, version = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    work.chmod(0o755)
    run("apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", "docker.io", "containerd", "runc", cwd=work)
    for name, tree in (("docker.io", engine), ("containerd", runtime), ("runc", runtime)):
        (deb,) = work.glob(f"{name}_*.deb")
        run("dpkg-deb", "-x", str(deb), str(work / tree), cwd=work)
    (deb,) = work.glob("docker.io_*.deb")
    needs = subprocess.run(
        ["dpkg-deb", "--field", str(deb), "Depends"], check=True, capture_output=True, text=True
    ).stdout
    libraries = [one.split()[0] for one in needs.split(",") if one.split()[0].startswith("lib")]
    run("apt-get", "install", "--yes", "-qq", "--no-install-recommends", *libraries, cwd=work)
    (work / cli / "usr/bin").mkdir(parents=True)
    shutil.move(work / engine / "usr/bin/docker", work / cli / "usr/bin/docker")
    for other in ("docker.io", "containerd", "runc"):
        shutil.rmtree(work / engine / "usr/share/doc" / other, ignore_errors=True)
    debs = [
        pack(
            work,
            runtime,
            version,
            "Conflicts: containerd, runc\nReplaces: containerd, runc\nProvides: containerd, runc\n",
        ),
        pack(work, cli, version, "Conflicts: docker.io, docker-cli\nReplaces: docker.io, docker-cli\n"),
        pack(work, engine, version, f"Depends: {cli}, {runtime}\nConflicts: docker.io\nReplaces: docker.io\n", START),
    ]
    run("dpkg", "--install", *(str(deb) for deb in debs), cwd=work)
