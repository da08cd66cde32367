"""Everything that the role rocm wants to know of a machine before it changes it, in one exec: JSON in, JSON out.

In: {driver: [package], adopt: bool, packages: [package], headers: bool, key: armoured, source: path of the role's own apt source,
urls: [repository], loaders: [unit]}; a package is "name" or "name=version". Out: among others `driver`, the packages to install.
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


def fingerprints(data: bytes) -> list[str]:
    """Fingerprints of all primary keys in a file, armoured or binary: apt trusts each of them. [] where a part is no version 4 key.

    SHA-1 over 0x99, the packet's length and the packet (RFC 9580, 5.5.4.2).
    """
    blocks = [data]
    if b"-----BEGIN PGP" in data:
        text = data.decode("ascii", "replace").replace("\r", "")
        armoured = [block.partition("-----END PGP")[0] for block in text.split("-----BEGIN PGP")[1:]]
        bodies = [block.partition("\n\n")[2].splitlines() for block in armoured]
        blocks = [("".join(line for line in body if line[:1] != "=")).encode() for body in bodies]
    found = []
    try:
        for block in blocks:
            rest = base64.b64decode(block, validate=True) if block is not data else block
            while rest:
                tag, start, size = packet(rest)
                if tag == 6:
                    content = rest[start : start + size]
                    if len(content) < size or content[0] != 4:
                        return []
                    found.append(hashlib.sha1(b"\x99" + size.to_bytes(2, "big") + content).hexdigest().upper())
                rest = rest[start + size :]
    except (ValueError, IndexError, OverflowError):
        return []
    return found


def packet(data: bytes) -> tuple[int, int, int]:
    """Tag, start and length of the first packet. Raises ValueError for what is none (RFC 9580, 4.2)."""
    head = data[0]
    if not head & 0x80:
        raise ValueError("no OpenPGP packet")
    if not head & 0x40:  # old format
        octets = 1 << (head & 3)
        if octets == 8:
            raise ValueError("a packet without a length")
        return head >> 2 & 15, 1 + octets, int.from_bytes(data[1 : 1 + octets], "big")
    one = data[1]
    if one < 192:
        return head & 63, 2, one
    if one < 224:
        return head & 63, 3, (one - 192 << 8) + data[2] + 192
    if one < 255:
        raise ValueError("a packet of partial length")
    return head & 63, 6, int.from_bytes(data[2:6], "big")


def policy(name: str) -> str:
    """`installable`, `pinned` where a preference forbids every version, or `unknown`, by the lists that were fetched last."""
    answer = out("apt-cache", "policy", name)
    if not answer:
        return "unknown"
    if "Candidate: (none)" not in answer:
        return "installable"
    return "pinned" if re.search(r"^     \S+ -\d+$", answer, re.MULTILINE) else "unknown"


def known(name: str) -> bool:
    """Whether apt could install the package."""
    return policy(name) == "installable"


def headers(installed: dict[str, str]) -> list[str]:
    """Packages that DKMS needs for the running kernel, and the metapackages that bring them for each later one.

    Not every kernel has linux-modules-extra. A metapackage of images that is held brings no later kernel.
    """
    release = platform.release()
    held = set(out("apt-mark", "showhold").split())
    images = [name for name in sorted(installed) if re.match(r"linux-image-(?!\d|unsigned-|extra-|.*-dbg)", name)]
    metas = [name.replace("image", "headers", 1) for name in images if name not in held]
    names = [f"linux-headers-{release}", f"linux-modules-extra-{release}", *metas]
    return [name for name in dict.fromkeys(names) if name in installed or policy(name) != "unknown"]


def entries() -> list[dict[str, str]]:
    """Every enabled deb source of apt but the role's own: {file, url, suite, key}; key is a path, "inline" or ""."""
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
    """Sources of AMD's packages that others configured; `fingerprint` is that of their key file."""
    urls = [url.rstrip("/") for url in query["urls"]]
    amd = re.compile(r"//repo\.radeon\.com/|/(rocm|amdgpu|graphics)/(apt/)?[0-9][^/]*(/|$)")
    found = [one for one in entries() if one["url"] in urls or amd.search(one["url"])]
    for one in found:
        try:
            data = pathlib.Path(one["key"]).read_bytes() if one["key"].startswith("/") else b""
        except OSError:
            data = b""
        one["fingerprint"] = " and ".join(fingerprints(data))
        one["same"] = one["url"] in urls
    return found


def loader() -> str:
    """The unit of a vendor that loads amdgpu after the boot, in place of the kernel's own loading; "" without one."""
    for unit in query["loaders"]:
        if out("systemctl", "is-enabled", unit).strip() == "enabled":
            return unit
    return ""


def release_of(version: str) -> str:
    """AMD's driver release of a package version: 30.30.4 of 1:6.16.13.30300400-2341068; "" for another form."""
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
            "fingerprint": " and ".join(fingerprints(query["key"].encode())),
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
