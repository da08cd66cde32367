"""Everything that the role docker wants to know of a machine, in one exec: JSON in, JSON out, nothing changed.

In: {packages: ["name" or "name=version"], daemon_file: path, key: armoured, adopt: bool, record: path of what was there before us}.
Out: among others `packages`, which are to be installed: those, and the client where the distribution has it apart; of an engine of
other packages that is adopted, these. Called by tasks/preflight.yml through `python3 -c`.
"""

import base64
import fnmatch
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys


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


def with_client(packages: list[str]) -> list[str]:
    """Debian's docker.io has only recommended its client since 13, and we install nothing that is only recommended."""
    told = pathlib.Path("/etc/os-release").read_text().splitlines()
    system = {key: value.strip('"') for key, _, value in (line.partition("=") for line in told)}
    apart = system.get("ID") == "debian" and int(system.get("VERSION_ID") or 0) >= 13
    names = {package.partition("=")[0] for package in packages}
    return [*packages, *(["docker-cli"] if apart and "docker.io" in names and "docker-cli" not in names else [])]


def engine() -> dict:
    """The engine that is there: {version, packages: [name]}, by its program and by the packages of its parts."""
    program = shutil.which("dockerd", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
    if not program:
        return {"version": "", "packages": []}
    version = re.search(r"version v?(\d+(?:\.\d+)*)", out(program, "--version"))
    owners = [owner(path) for path in (program, "/usr/bin/docker", "/usr/bin/containerd")]
    return {"version": version[1] if version else "", "packages": [name for name in dict.fromkeys(owners) if name]}


def owner(path: str) -> str:
    """The package that a file belongs to, or ""."""
    return out("dpkg-query", "-S", path).partition(":")[0]


def was_there(names: list[str], record: pathlib.Path) -> bool:
    """Whether packages were on the machine before our first run there; so is everything where none was made yet."""
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
            "fingerprint": " and ".join(fingerprints(query["key"].encode())),
        }
    )
)
