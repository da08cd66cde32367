"""Read everything that the role rocm needs to know of a host, in one exec: JSON in, JSON out. Changes nothing.

In: {driver: [package], adopt: bool, packages: [package], headers: bool, key: armoured, source: path of the role's own apt source,
urls: [repository], loaders: [unit]}; a package is "name" or "name=version". Out: among others `driver`, the packages to install.
Called by tasks/read.yml through `python3 -c`, after roles/host/files/openpgp.py (fingerprints).
"""

import fnmatch
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


def policy(name: str) -> str:
    """Return `installable`, `pinned` if a preference forbids every version, or `unknown`, by the package lists on the host."""
    answer = out("apt-cache", "policy", name)
    if not answer:
        return "unknown"
    if "Candidate: (none)" not in answer:
        return "installable"
    return "pinned" if re.search(r"^     \S+ -\d+$", answer, re.MULTILINE) else "unknown"


def known(name: str) -> bool:
    """Return whether apt could install the package."""
    return policy(name) == "installable"


def headers(installed: dict[str, str]) -> list[str]:
    """Return packages that DKMS needs for the running kernel, and the metapackages with those of each later one.

    Not every kernel has linux-modules-extra. A held metapackage of images brings no later kernel.
    """
    release = platform.release()
    held = set(out("apt-mark", "showhold").split())
    images = [name for name in sorted(installed) if re.match(r"linux-image-(?!\d|unsigned-|extra-|.*-dbg)", name)]
    metas = [name.replace("image", "headers", 1) for name in images if name not in held]
    names = [f"linux-headers-{release}", f"linux-modules-extra-{release}", *metas]
    return [name for name in dict.fromkeys(names) if name in installed or policy(name) != "unknown"]


def entries() -> list[dict[str, str]]:
    """Return every enabled deb source of apt but the role's own: {file, url, suite, key}; key is a path, "inline" or ""."""
    folder = pathlib.Path("/etc/apt/sources.list.d")
    found = []
    for file in [pathlib.Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list"))]:
        for options, url, suite in re.findall(
            r"^\s*deb\s+(?:\[([^]\n]*)\]\s+)?(\S+)\s+(\S+)", text(file), re.MULTILINE
        ):
            key = re.search(r"(?:^|\s)signed-by=(\S+)", options, re.IGNORECASE)
            found.append({"file": str(file), "url": url, "suite": suite, "key": key.group(1) if key else ""})
    for file in sorted(folder.glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", re.sub(r"^#.*\n", "", text(file), flags=re.MULTILINE)):
            pairs = re.findall(r"^(\S+?):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE)
            fields = {name.lower(): value.split() for name, value in pairs}
            if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"])[0].lower() in ("no", "false"):
                continue
            key = fields.get("signed-by", [""])[0]
            key = "inline" if key.startswith("-----") else key
            for url in fields.get("uris", []):
                for suite in fields.get("suites", []):
                    found.append({"file": str(file), "url": url, "suite": suite, "key": key})
    return [{**one, "url": one["url"].rstrip("/")} for one in found if one["file"] != query["source"]]


def repositories() -> list[dict[str, str]]:
    """Return other sources of AMD's packages; `fingerprint` is that of their key file."""
    urls = [url.rstrip("/") for url in query["urls"]]
    amd = re.compile(r"//repo\.radeon\.com/|/(rocm|amdgpu|graphics)/(apt/)?[0-9][^/]*(/|$)")
    found = [one for one in entries() if one["url"] in urls or amd.search(one["url"])]
    for one in found:
        try:
            data = pathlib.Path(one["key"]).read_bytes() if one["key"].startswith("/") else b""
        except OSError:
            data = b""
        one["fingerprint"] = " and ".join(fingerprints(data))  # noqa: F821 openpgp.py
        one["same"] = one["url"] in urls
    return found


def loader() -> str:
    """Return the vendor's unit that loads amdgpu after the boot instead of the kernel, or ""."""
    for unit in query["loaders"]:
        if out("systemctl", "is-enabled", unit).strip() == "enabled":
            return unit
    return ""


def release_of(version: str) -> str:
    """Return AMD's driver release of a package version: 30.30.4 of 1:6.16.13.30300400-2341068; "" for another form."""
    found = re.search(r"\.(\d\d)(\d\d)(\d\d)\d\d-", version)
    return ".".join(str(int(part)) for part in found.groups()) if found else ""


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
    """Return AMD's processing accelerators (class 12) and displays (class 03)."""
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
driver = [
    name if query["adopt"] and name in have else wanted
    for wanted in query["driver"]
    for name in [wanted.partition("=")[0]]
]
pins = {package.partition("=")[0]: package.partition("=")[2] or "*" for package in extra + driver + query["packages"]}
missing = [name for name, version in pins.items() if name not in have or not fnmatch.fnmatchcase(have[name], version)]
names = [package.partition("=")[0] for package in driver]
print(
    json.dumps(
        {
            "system": f"{release.get('ID', '?')}-{release.get('VERSION_ID', '?')}".replace('"', ""),
            "kernel": platform.release(),
            "pci": pci(),
            "fingerprint": " and ".join(fingerprints(query["key"].encode())),  # noqa: F821 openpgp.py
            "blacklisted": blacklists(),
            "loader": loader(),
            "dkms": pathlib.Path("/usr/sbin/dkms").exists(),
            "repositories": repositories(),
            "headers": extra,
            "headers_pinned": [name for name in extra if name not in have and policy(name) == "pinned"],
            "driver": driver,
            "driver_installed": {
                name: {"version": have[name], "release": release_of(have[name])} for name in names if name in have
            },
            "packages_missing": missing,
            "packages_unknown": [name for name in missing if not known(name)],
        }
    )
)
