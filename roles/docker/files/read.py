"""Read everything that the role docker needs to know of a host, in one exec: JSON in, JSON out. Changes nothing.

In: {packages: ["name" or "name=version"], daemon_file: path, key: armoured, adopt: bool, record: path of baseline.py's record}.
Out: among others `packages`, to be installed: those, and docker-cli if it is a separate package; of an adopted Docker, its own.
Called by tasks/preflight.yml through `python3 -c`, after roles/host/files/openpgp.py (fingerprints).
"""

import fnmatch
import json
import pathlib
import re
import shutil
import subprocess
import sys


def out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def with_client(packages: list[str]) -> list[str]:
    """Add docker-cli on Debian 13 and later: docker.io only recommends it there, and the role installs no recommended packages."""
    lines = pathlib.Path("/etc/os-release").read_text().splitlines()
    system = {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
    apart = system.get("ID") == "debian" and int(system.get("VERSION_ID") or 0) >= 13
    names = {package.partition("=")[0] for package in packages}
    return [*packages, *(["docker-cli"] if apart and "docker.io" in names and "docker-cli" not in names else [])]


def engine() -> dict:
    """Return the installed Docker: {version, packages: [name]}, by its program and by the packages of its parts."""
    program = shutil.which("dockerd", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
    if not program:
        return {"version": "", "packages": []}
    version = re.search(r"version v?(\d+(?:\.\d+)*)", out(program, "--version"))
    owners = [owner(path) for path in (program, "/usr/bin/docker", "/usr/bin/containerd")]
    return {"version": version[1] if version else "", "packages": [name for name in dict.fromkeys(owners) if name]}


def owner(path: str) -> str:
    """Return the package of a file, or ""."""
    return out("dpkg-query", "-S", path).partition(":")[0]


def was_there(names: list[str], record: pathlib.Path) -> bool:
    """Return whether packages were installed before the first run; true for all of them if there was no run yet."""
    return not record.exists() or {*names} <= {*json.loads(record.read_text())["packages"]}


query = json.load(sys.stdin)
packages = with_client(query["packages"])
found = engine()
other = found["packages"][:1] and found["packages"][0] not in [name.partition("=")[0] for name in packages]
adopted = bool(other and query["adopt"] and was_there(found["packages"][:1], pathlib.Path(query["record"])))
packages = found["packages"] if adopted else packages
installed = {
    words[1].split(":")[0]: words[2]
    for line in out("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\n").splitlines()
    if (words := line.split())[0] == "ii"
}
pins = {package.partition("=")[0]: package.partition("=")[2] or "*" for package in packages}
missing = [
    name
    for name, version in pins.items()
    if not fnmatch.fnmatchcase(installed.get(name, ""), version) or name not in installed
]
unknown = [name for name in missing if "Candidate: (none)" in (seen := out("apt-cache", "policy", name)) or not seen]
text, options, error = "", {}, ""
try:
    text = pathlib.Path(query["daemon_file"]).read_text()
    options = json.loads(text or "{}")
    if not isinstance(options, dict):
        options, error = {}, "not an object"
except FileNotFoundError:
    pass
except ValueError as problem:
    error = str(problem)
try:
    help_text = out("dockerd", "--help")  # --validate came with Engine 23
except FileNotFoundError:
    help_text = ""
units = out("systemctl", "list-units", "--all", "--plain", "--no-legend", "docker.service", "docker.socket")
print(
    json.dumps(
        {
            "units": [line.split()[0] for line in units.splitlines() if "not-found" not in line],
            "installed": pathlib.Path("/usr/bin/dockerd").exists() or pathlib.Path("/usr/sbin/dockerd").exists(),
            "validates": "--validate" in help_text,
            "engine": found["version"],
            "adopted": adopted,
            "folder": pathlib.Path(query["daemon_file"]).parent.is_dir(),
            "packages": packages,
            "packages_missing": missing,
            "packages_unknown": unknown,
            "text": text,
            "options": options,
            "error": error,
            "fingerprint": " and ".join(fingerprints(query["key"].encode())),  # noqa: F821 openpgp.py
        }
    )
)
