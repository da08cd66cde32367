"""Everything that the role rocm wants to know of a machine before it changes it, in one exec: JSON in, JSON out.

In: {driver: [package], packages: [package], headers: bool, key: armoured}; a package is "name" or "name=version".
Called by tasks/preflight.yml through `python3 -c`.
"""

import base64
import fnmatch
import hashlib
import json
import pathlib
import platform
import re
import subprocess
import sys


def text(path: pathlib.Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


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


def known(name: str) -> bool:
    """Whether apt could install the package, by the lists that were fetched last."""
    return "Candidate: (none)" not in (seen := out("apt-cache", "policy", name)) and bool(seen)


def headers(installed: dict[str, str]) -> list[str]:
    """Packages that the driver's build needs for the running kernel; not every kernel has the second one."""
    names = [f"linux-headers-{platform.release()}", f"linux-modules-extra-{platform.release()}"]
    return [name for name in names if name in installed or known(name)]


def blacklists() -> list[str]:
    pattern = re.compile(r"^\s*(blacklist\s+amdgpu\b|install\s+amdgpu\s+/bin/(true|false))", re.MULTILINE)
    files = [
        file
        for folder in ("/etc/modprobe.d", "/lib/modprobe.d")
        for file in sorted(pathlib.Path(folder).glob("*.conf"))
    ]
    found = [str(file) for file in files if pattern.search(text(file))]
    command_line = re.search(r"\bmodprobe\.blacklist=\S*\bamdgpu\b", text(pathlib.Path("/proc/cmdline")))
    return found + (["the kernel command line"] if command_line else [])


def pci() -> list[str]:
    """Processing accelerators (class 12) and displays (class 03) of AMD."""
    found = []
    for device in sorted(pathlib.Path("/sys/bus/pci/devices").glob("*")):
        if text(device / "vendor").strip() == "0x1002" and text(device / "class")[:4] in ("0x12", "0x03"):
            found.append(f"{device.name} {text(device / 'device').strip()}")
    return found


query = json.load(sys.stdin)
release = dict(line.split("=", 1) for line in text(pathlib.Path("/etc/os-release")).splitlines() if "=" in line)
have = {
    words[1].split(":")[0]: words[2]
    for line in out("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\n").splitlines()
    if (words := line.split())[0] == "ii"
}
extra = headers(have) if query["headers"] else []
pins = {
    package.partition("=")[0]: package.partition("=")[2] or "*"
    for package in extra + query["driver"] + query["packages"]
}
missing = [name for name, version in pins.items() if name not in have or not fnmatch.fnmatchcase(have[name], version)]
print(
    json.dumps(
        {
            "system": f"{release.get('ID', '?')}-{release.get('VERSION_ID', '?')}".replace('"', ""),
            "kernel": platform.release(),
            "pci": pci(),
            "fingerprint": fingerprint(query["key"]) if query["key"] else "",
            "blacklisted": blacklists(),
            "headers": extra,
            "packages_missing": missing,
            "packages_unknown": [name for name in missing if not known(name)],
        }
    )
)
