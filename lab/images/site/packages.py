"""The site's package archive: stand-ins for AMD's driver and tools, in a signed repository.

`pool` builds the packages during the image's build; `publish` signs them with the site's own key at its start.
Needs dpkg-deb, apt-ftparchive, gpg. Each package's description says that it is a stand-in.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path("/srv/packages")
# The suites for which AMD builds; Debian 12 uses jammy, Debian 13 noble.
SUITES = ("jammy", "noble", "resolute")
# Versions of AMD's releases 30.30.3 and 30.30.4. The module's srcversion distinguishes two builds.
DRIVERS = {
    "1:6.16.13.30300300-2327507": "533BB7E5866E52F63B9ACCB",
    "1:6.16.13.30300400-2341068": "9F1C3D5A7B2E4608D1A3C5E",
}
TOOLS = "26.2.2.70204-93"
POSTINST = """#!/bin/sh
set -e
folder=/lib/modules/$(uname -r)/updates/dkms
mkdir -p "$folder"
printf 'version=6.16.13\\nsrcversion={srcversion}\\nstand-in: no module, only what names one\\n' > "$folder/amdgpu.ko"
touch /run/reboot-required
"""
PRERM = """#!/bin/sh
rm -f "/lib/modules/$(uname -r)/updates/dkms/amdgpu.ko"
"""
AMD_SMI = """#!/bin/sh
# Stand-in for amd-smi: names the GPUs that the kernel's compute driver knows.
[ -e /dev/kfd ] || { echo 'ERROR: no driver: /dev/kfd is not there' >&2; exit 255; }
n=0
for node in /sys/class/kfd/kfd/topology/nodes/*; do
  grep -q '^simd_count [1-9]' "$node/properties" || continue
  echo "GPU: $n"
  echo "    UUID: $(sed -n 's/^unique_id //p' "$node/properties")"
  n=$((n + 1))
done
"""


def pool() -> None:
    """Build every package into ROOT/pool."""
    for version, srcversion in DRIVERS.items():
        scripts = {"postinst": POSTINST.format(srcversion=srcversion), "prerm": PRERM}
        _deb("amdgpu-dkms", version, "no driver: a file that the lab's firmware takes for one at boot", scripts, {})
    _deb("amd-smi-lib", TOOLS, "names the lab's stand-in GPUs", {}, {"opt/rocm/bin/amd-smi": AMD_SMI})


def publish() -> tuple[str, str]:
    """Sign the archive with a new key. Return the armoured public key and its fingerprint."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "GNUPGHOME": home}

        def gpg(*words: str) -> str:
            command = ["gpg", "--batch", "--quiet", "--yes", *words]
            return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

        gpg("--passphrase", "", "--quick-gen-key", "Lab packages <lab@lab.internal>", "ed25519", "sign", "never")
        lines = gpg("--list-keys", "--with-colons").splitlines()
        fingerprint = next(line.split(":")[9] for line in lines if line.startswith("fpr:"))
        for suite in SUITES:
            folder = ROOT / "dists" / suite
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "main" / "binary-amd64").mkdir(parents=True)
            (folder / "main" / "binary-amd64" / "Packages").write_text(_archive("packages", "pool"))
            names = {"Suite": suite, "Codename": suite, "Components": "main", "Architectures": "amd64", "Origin": "lab"}
            options = [f"--option=APT::FTPArchive::Release::{name}={value}" for name, value in names.items()]
            release = _archive(*options, "release", f"dists/{suite}")
            (folder / "Release").write_text(release)
            gpg("--clearsign", "--output", str(folder / "InRelease"), str(folder / "Release"))
        key = gpg("--armor", "--export")
        subprocess.run(["gpgconf", "--kill", "all"], check=True, env=environment)
    return key, fingerprint


def _archive(*words: str) -> str:
    return subprocess.run(["apt-ftparchive", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _deb(name: str, version: str, about: str, scripts: dict[str, str], files: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        root.chmod(0o755)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Lab <lab@lab.internal>\n"
        contents = {"DEBIAN/control": f"{control}Description: lab stand-in: {about}\n"}
        contents |= {f"DEBIAN/{script}": text for script, text in scripts.items()} | files
        for path, text in contents.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o644 if path == "DEBIAN/control" else 0o755)
        (ROOT / "pool").mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, ROOT / "pool"], check=True)


if __name__ == "__main__" and sys.argv[1:] == ["pool"]:
    pool()
