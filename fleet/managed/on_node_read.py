"""Runs on the node, as root, by `python3 -I -`: print the state of managed things as one line of JSON.

Owns the attributes of each kind, none of them volatile (process IDs, start times). An absent thing is {}; the attribute "of" of a derived
thing names its origin. Called by reader.py with ["KIND NAME", …]. Needs Python 3.10's standard library, and systemctl, dpkg-query, docker.
If a command hangs, the script ends with exit code HANGS, and the last line on stderr names the command.
"""

import base64
import grp
import hashlib
import hmac
import json
import pwd
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

Attributes = dict[str, Any]
State = dict[str, Attributes]

# Words in the names of variables and files that may contain a secret.
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")
# The keys for digests of such files: without the node's private key, nobody with the state can test guesses of a secret.
HOST_KEYS = "/etc/ssh/ssh_host_*_key"
# Bytes; of a larger file we compare size and time, as the role has verified its content.
HASHED = 64 << 20
# Seconds for a command (systemctl itself waits for 25), and for each container if one hangs; reader.PATIENCE is longer.
LIMIT, LIMIT_EACH = 30, 3
HANGS = 75
DAEMON = Path("/etc/docker/daemon.json")
BASELINE = Path("/var/lib/fleet/before.json")
UNIT = "Id,Names,LoadState,ActiveState,UnitFileState,FragmentPath,DropInPaths,NeedDaemonReload,ExecStart"
# Keys of a container's HostConfig: rights, devices, folders, ports and memory.
HOST = (
    *("Privileged", "NetworkMode", "PidMode", "IpcMode", "UsernsMode", "CapAdd", "CapDrop", "SecurityOpt"),
    *("ReadonlyRootfs", "Devices", "Binds", "Mounts", "GroupAdd", "PortBindings", "Ulimits", "Tmpfs"),
    *("ShmSize", "Memory", "PidsLimit", "CpusetCpus"),
)


def run(*command: str, limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=limit
    )


def hangs(command: str) -> NoReturn:
    print(f"`{command}` gave no answer within {LIMIT} s", file=sys.stderr)
    sys.exit(HANGS)


def out(*command: str) -> str:
    try:
        return run(*command).stdout
    except subprocess.TimeoutExpired:
        hangs(" ".join(command[:2]))


def sha256(path: str) -> str:
    total = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def is_secret(name: str) -> bool:
    return any(word in name.upper() for word in SECRET)


def digest(path: str) -> Attributes:
    """Return the sha256 of a file; of one that may contain a secret, an HMAC with this node's private host key."""
    keys = sorted(Path("/").glob(HOST_KEYS.lstrip("/"))) if is_secret(Path(path).name) else []
    if not keys:
        return {"sha256": sha256(path)}
    return {"keyed_sha256": hmac.new(keys[0].read_bytes(), Path(path).read_bytes(), "sha256").hexdigest()}


def owner(number: int, find: Callable[[int], Any]) -> str:
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)


def read_file(path: str) -> Attributes:
    try:
        status = Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if stat.S_ISLNK(status.st_mode):
        return {"type": "link", "target": str(Path(path).readlink())}
    mode = status.st_mode
    state: Attributes = {
        "type": "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "special file",
        "mode": f"{stat.S_IMODE(mode):04o}",
        "owner": owner(status.st_uid, pwd.getpwuid),
        "group": owner(status.st_gid, grp.getgrgid),
    }
    if stat.S_ISREG(mode):
        if status.st_size <= HASHED:
            state |= digest(path)
        else:
            state |= {"size": str(status.st_size), "mtime_ns": str(status.st_mtime_ns)}
    return state


def read_manifest(path: str) -> Attributes:
    """Return number, bytes and a digest of sizes and times of the files in a manifest.json; {} if it is malformed."""
    try:
        entries = sorted(json.loads(Path(path).read_text())["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    total, digest = 0, hashlib.sha256()
    wrong: list[str] = []
    for name, entry in entries:
        try:
            status = (Path(path).parent / name).stat()
        except OSError:
            wrong.append(f"{name} (absent)")
            continue
        total += status.st_size
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
        if isinstance(entry, dict) and entry.get("size", status.st_size) != status.st_size:
            wrong.append(f"{name} ({status.st_size} bytes instead of {entry['size']})")
        elif isinstance(entry, dict) and entry.get("mtime_ns", status.st_mtime_ns) != status.st_mtime_ns:
            wrong.append(f"{name} (written to)")
    state: Attributes = {"files": str(len(entries)), "bytes": str(total), "sha256": digest.hexdigest()}
    return state | ({"wrong": wrong[:8]} if wrong else {})


def options(text: bytes) -> dict[str, str]:
    """Return the options of a daemon.json by path, such as `log-opts.max-size`; {} if it is not a JSON object."""
    values: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        for key, item in value.items():
            if isinstance(item, dict) and item:
                walk(f"{prefix}{key}.", item)
            else:
                values[f"{prefix}{key}"] = json.dumps(item)

    try:
        document = json.loads(text or b"{}")
        walk("", document if isinstance(document, dict) else {})
    except (ValueError, RecursionError):
        return {}
    return values


def read_options() -> Attributes:
    """Return the options of daemon.json that differ from the baseline; {} on a host without one."""
    try:
        files = json.loads(BASELINE.read_text())["files"]
        before = files[str(DAEMON)]
        old = options(base64.b64decode((before or {}).get("content", "")))
        new = options(DAEMON.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {"later": sorted(name for name, value in new.items() if old.get(name) != value)}


def read_units(names: list[str]) -> State:
    """Return the state of units, and of the containers that their ExecStart runs."""
    if not names:
        return {}
    states: State = {name: {} for name in names}
    containers: dict[str, str] = {}
    # systemctl prints one block for each name, in this order, also for a name without a unit.
    try:
        result = run("systemctl", "show", f"--property={UNIT}", "--", *names)
    except subprocess.TimeoutExpired:
        hangs("systemctl show")
    if result.returncode:  # unknown, not absent
        sys.exit(f"systemctl show: {result.stderr.strip()}")
    blocks = result.stdout.strip("\n").split("\n\n")
    for name, block in zip(names, blocks, strict=False):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if unit.get("LoadState", "not-found") == "not-found":
            continue
        state: Attributes = {"state": unit["ActiveState"], "at_boot": unit.get("UnitFileState") or "unknown"}
        state["unit_file"] = unit.get("FragmentPath") or "none"
        state["drop_ins"] = [f"{path} {sha256(path)[:12]}" for path in unit.get("DropInPaths", "").split()]
        state["loaded"] = "older than on disk" if unit.get("NeedDaemonReload") == "yes" else "as on disk"
        states[name] = state
        match = re.search(r"argv\[\]=\S*docker run .*?--name[ =](\S+)", unit.get("ExecStart", ""))
        if match:
            containers[match[1]] = name
    return {f"unit {name}": state for name, state in states.items()} | read_containers(containers)


def read_containers(units: dict[str, str]) -> State:
    """Return the state of containers (image, running, rights …) from {name: unit}."""
    if not units or not shutil.which("docker"):
        return {f"container {name}": {} for name in units}
    state: State = {f"container {name}": {} for name in units}
    for container in json.loads(inspect([*units]) or "[]"):
        name, config, host = container["Name"].lstrip("/"), container["Config"], container["HostConfig"]
        attributes: Attributes = {
            "of": f"unit {units[name]}",
            "running": bool(container["State"]["Running"]),
            "image": config["Image"],
            "image_id": container["Image"],
            "user": config.get("User") or "root",
            "command": [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])],
            "environment": sorted(map(without_secret, config.get("Env") or [])),
        }
        for key in HOST:
            if value := host.get(key):
                attributes[key] = value if isinstance(value, (bool, str)) else json.dumps(value, sort_keys=True)
        state[f"container {name}"] = attributes
    return state


def inspect(names: list[str]) -> str:
    """Return the output of `docker inspect`. If it hangs, find the container that hangs, and end."""
    command = ("docker", "inspect", "--type=container")
    try:
        return run(*command, *names).stdout
    except subprocess.TimeoutExpired:
        for name in names:
            try:
                run(*command, name, limit=LIMIT_EACH)
            except subprocess.TimeoutExpired:
                hangs(f"docker inspect {name}")
        hangs("docker inspect")


def without_secret(variable: str) -> str:
    """Return NAME=VALUE, with a digest for the value of a possible secret."""
    name, _, value = variable.partition("=")
    return f"{name}={hashlib.sha256(value.encode()).hexdigest()[:12] if is_secret(name) else value}"


def read_packages(names: list[str]) -> State:
    if not names:
        return {}
    states: State = {}
    form = "${Package}\t${db:Status-Want}\t${db:Status-Status}\t${Version}\n"
    for line in out("dpkg-query", "--show", f"--showformat={form}", *names).splitlines():
        name, want, status, version = line.split("\t")
        if status == "installed":
            states[name] = {"version": version, "held": want == "hold"}
    return {f"package {name}": states.get(name.split(":")[0], {}) for name in names}


def read_sysctl(name: str) -> Attributes:
    try:
        return {"value": " ".join(Path("/proc/sys", *name.split(".")).read_text().split())}
    except OSError:
        return {}


def read_user(name: str) -> Attributes:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return {}
    groups = sorted(group.gr_name for group in grp.getgrall() if name in group.gr_mem)
    return {
        "uid": str(user.pw_uid),
        "group": owner(user.pw_gid, grp.getgrgid),
        "groups": groups,
        "home": user.pw_dir,
        "shell": user.pw_shell,
    }


def read_group(name: str) -> Attributes:
    try:
        return {"gid": str(grp.getgrnam(name).gr_gid)}
    except KeyError:
        return {}


def kernel_arguments() -> list[str]:
    """Return the arguments of the running kernel, without those that name its image and root device."""
    words = Path("/proc/cmdline").read_text().split()
    return [word for word in words if not word.startswith(("BOOT_IMAGE=", "initrd=", "root=", "rootflags=", "resume="))]


def main(things: list[str]) -> None:
    names_by_kind: dict[str, list[str]] = {}
    for thing in things:
        kind, name = thing.split(" ", 1)
        names_by_kind.setdefault(kind, []).append(name)
    state: State = {}
    for path in names_by_kind.get("file", ()):
        state[f"file {path}"] = read_file(path)
        if Path(path).name == "manifest.json" and (files := read_manifest(path)):
            state[f"files of {path}"] = {"of": f"file {path}"} | files
        if path == str(DAEMON) and (options := read_options()):
            state[f"options of {path}"] = {"of": f"file {path}"} | options
        if path.startswith("/etc/default/grub.d/"):
            state[f"kernel started for {path}"] = {"of": f"file {path}", "arguments": kernel_arguments()}
    state |= read_units(names_by_kind.get("unit", []))
    state |= read_packages(names_by_kind.get("package", []))
    for kind, read in (("sysctl", read_sysctl), ("user", read_user), ("group", read_group)):
        state |= {f"{kind} {name}": read(name) for name in names_by_kind.get(kind, ())}
    print(json.dumps(state))
