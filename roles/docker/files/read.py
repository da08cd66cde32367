"""Everything that the role docker wants to know of a machine, in one exec: JSON in, JSON out, nothing changed.

In: {packages: ["name" or "name=version"], daemon_file: path, key: armoured}. Out: among others `packages`, which are to be installed:
those, and the client where the distribution has it apart. Called by tasks/preflight.yml through `python3 -c`.
"""

import base64
import fnmatch
import hashlib
import json
import pathlib
import subprocess
import sys


def out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def fingerprint(armoured: str) -> str:
    """Of the first packet of an armoured public key, version 4: SHA-1 over 0x99, its length and itself (RFC 9580, 5.5.4.2)."""
    body = "".join(line for line in armoured.partition("\n\n")[2].splitlines() if line[:1] not in ("=", "-"))
    try:
        data = base64.b64decode(body)
        if data[0] & 0x40:  # new format of packet lengths
            one = data[1]
            start, size = (2, one) if one < 192 else (3, (one - 192 << 8) + data[2] + 192)
        else:
            octets = 1 << (data[0] & 3)
            start, size = 1 + octets, int.from_bytes(data[1 : 1 + octets], "big")
    except (ValueError, IndexError):
        return ""
    return hashlib.sha1(b"\x99" + size.to_bytes(2, "big") + data[start : start + size]).hexdigest().upper()


def with_client(packages: list[str]) -> list[str]:
    """Debian's docker.io has only recommended its client since 13, and we install nothing that is only recommended."""
    told = pathlib.Path("/etc/os-release").read_text().splitlines()
    system = {key: value.strip('"') for key, _, value in (line.partition("=") for line in told)}
    apart = system.get("ID") == "debian" and int(system.get("VERSION_ID") or 0) >= 13
    names = {package.partition("=")[0] for package in packages}
    return [*packages, *(["docker-cli"] if apart and "docker.io" in names and "docker-cli" not in names else [])]


query = json.load(sys.stdin)
packages = with_client(query["packages"])
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
            "folder": pathlib.Path(query["daemon_file"]).parent.is_dir(),
            "packages": packages,
            "packages_missing": missing,
            "packages_unknown": unknown,
            "text": text,
            "options": options,
            "error": error,
            "fingerprint": fingerprint(query["key"]) if query["key"] else "",
        }
    )
)
