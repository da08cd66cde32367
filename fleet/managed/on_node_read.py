"""Runs on the node, as root, by `python3 -I -`: the state of named things, as one line of JSON on stdout.

Owns what belongs to a thing's state. Needs Python 3.10's standard library; systemctl, dpkg-query, docker where they are asked.
Called by managed.read, which appends main(["KIND NAME", …]). Nothing volatile (pids, times of start) is in the answer;
a thing that is not there is {}. What follows from another thing says so in "of".
A command that gives no answer ends the reader with exit code HANGS; the last line on stderr says which command, and of what.
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

Seen = dict[str, Any]
State = dict[str, Seen]

# Words in the name of a variable or a file that may hold a secret.
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")
# What a digest of such a file is keyed with: whoever has the state and not the node can try no guess of the secret against it.
HOST_KEYS = "/etc/ssh/ssh_host_*_key"
# A larger file is known by size and time: its content was verified when it was written.
HASHED = 64 << 20
# Seconds that one command may take (systemctl itself waits for 25), and each container where one of them hangs; managed.PATIENCE is longer.
LIMIT, ONE = 30, 3
HANGS = 75
DAEMON = Path("/etc/docker/daemon.json")
BASELINE = Path("/var/lib/fleet/before.json")
UNIT = "Id,Names,LoadState,ActiveState,UnitFileState,FragmentPath,DropInPaths,NeedDaemonReload,ExecStart"
# Of a container's HostConfig: what gives it rights, devices, folders, ports and memory.
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


def digest(path: str) -> Seen:
    """The content of a file as its sha256; of one that may hold a secret as an HMAC with this node's private host key."""
    keys = sorted(Path("/").glob(HOST_KEYS.lstrip("/"))) if is_secret(Path(path).name) else []
    if not keys:
        return {"sha256": sha256(path)}
    return {"keyed_sha256": hmac.new(keys[0].read_bytes(), Path(path).read_bytes(), "sha256").hexdigest()}


def owner(number: int, find: Callable[[int], Any]) -> str:
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)


def read_file(path: str) -> Seen:
    try:
        seen = Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if stat.S_ISLNK(seen.st_mode):
        return {"type": "link", "target": str(Path(path).readlink())}
    state: Seen = {
        "type": "directory" if stat.S_ISDIR(seen.st_mode) else "file" if stat.S_ISREG(seen.st_mode) else "special file",
        "mode": f"{stat.S_IMODE(seen.st_mode):04o}",
        "owner": owner(seen.st_uid, pwd.getpwuid),
        "group": owner(seen.st_gid, grp.getgrgid),
    }
    if stat.S_ISREG(seen.st_mode):
        if seen.st_size <= HASHED:
            state |= digest(path)
        else:
            state |= {"size": str(seen.st_size), "mtime_ns": str(seen.st_mtime_ns)}
    return state


def read_manifest(path: str) -> Seen:
    """The files that a manifest.json names, by size and time; {} when that is no such manifest."""
    try:
        files = json.loads(Path(path).read_text())["files"]
        named = sorted(files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    total, digest = 0, hashlib.sha256()
    wrong: list[str] = []
    for name, entry in named:
        try:
            seen = (Path(path).parent / name).stat()
        except OSError:
            wrong.append(f"{name} (absent)")
            continue
        total += seen.st_size
        digest.update(f"{name} {seen.st_size} {seen.st_mtime_ns}\n".encode())
        if isinstance(entry, dict) and entry.get("size", seen.st_size) != seen.st_size:
            wrong.append(f"{name} ({seen.st_size} bytes instead of {entry['size']})")
        elif isinstance(entry, dict) and entry.get("mtime_ns", seen.st_mtime_ns) != seen.st_mtime_ns:
            wrong.append(f"{name} (written to)")
    state: Seen = {"files": str(len(named)), "bytes": str(total), "sha256": digest.hexdigest()}
    return state | ({"wrong": wrong[:8]} if wrong else {})


def options(text: bytes) -> dict[str, str]:
    """The options of a daemon.json by path, `log-opts.max-size`; none of a file that is no JSON object."""
    found: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        for key, one in value.items():
            if isinstance(one, dict) and one:
                walk(f"{prefix}{key}.", one)
            else:
                found[f"{prefix}{key}"] = json.dumps(one)

    try:
        told = json.loads(text or b"{}")
        walk("", told if isinstance(told, dict) else {})
    except (ValueError, RecursionError):
        return {}
    return found


def read_options() -> Seen:
    """The options of daemon.json that are not as they were before our first run; {} on a host of which that is not recorded."""
    try:
        files = json.loads(BASELINE.read_text())["files"]
        before = files[str(DAEMON)]
        was = options(base64.b64decode((before or {}).get("content", "")))
        now = options(DAEMON.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {"later": sorted(name for name, value in now.items() if was.get(name) != value)}


def read_units(names: list[str]) -> State:
    """Units by name, and the containers that their ExecStart runs."""
    if not names:
        return {}
    found: State = {name: {} for name in names}
    containers: dict[str, str] = {}
    # One name a block, in our order; a name without a unit gives a block too.
    try:
        asked = run("systemctl", "show", f"--property={UNIT}", "--", *names)
    except subprocess.TimeoutExpired:
        hangs("systemctl show")
    if asked.returncode:  # no answer says nothing of the units: they are not absent
        sys.exit(f"systemctl show: {asked.stderr.strip()}")
    blocks = asked.stdout.strip("\n").split("\n\n")
    for name, block in zip(names, blocks, strict=False):
        seen = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if seen.get("LoadState", "not-found") == "not-found":
            continue
        state: Seen = {"state": seen["ActiveState"], "at_boot": seen.get("UnitFileState") or "unknown"}
        state["unit_file"] = seen.get("FragmentPath") or "none"
        state["drop_ins"] = [f"{path} {sha256(path)[:12]}" for path in seen.get("DropInPaths", "").split()]
        state["loaded"] = "older than on disk" if seen.get("NeedDaemonReload") == "yes" else "as on disk"
        found[name] = state
        runs = re.search(r"argv\[\]=\S*docker run .*?--name[ =](\S+)", seen.get("ExecStart", ""))
        if runs:
            containers[runs[1]] = name
    return {f"unit {name}": state for name, state in found.items()} | read_containers(containers)


def read_containers(units: dict[str, str]) -> State:
    """Containers by name: image, running, rights; {name: unit} in."""
    if not units or not shutil.which("docker"):
        return {f"container {name}": {} for name in units}
    state: State = {f"container {name}": {} for name in units}
    for seen in json.loads(inspected([*units]) or "[]"):
        name, config, host = seen["Name"].lstrip("/"), seen["Config"], seen["HostConfig"]
        one: Seen = {
            "of": f"unit {units[name]}",
            "running": bool(seen["State"]["Running"]),
            "image": config["Image"],
            "image_id": seen["Image"],
            "user": config.get("User") or "root",
            "command": [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])],
            "environment": sorted(map(shown, config.get("Env") or [])),
        }
        for key in HOST:
            if host.get(key):
                one[key] = host[key] if isinstance(host[key], (bool, str)) else json.dumps(host[key], sort_keys=True)
        state[f"container {name}"] = one
    return state


def inspected(names: list[str]) -> str:
    """What Docker says of the containers. One that hangs holds up the answer for all: it is looked for, and named."""
    command = ("docker", "inspect", "--type=container")
    try:
        return run(*command, *names).stdout
    except subprocess.TimeoutExpired:
        for name in names:
            try:
                run(*command, name, limit=ONE)
            except subprocess.TimeoutExpired:
                hangs(f"docker inspect {name}")
        hangs("docker inspect")


def shown(variable: str) -> str:
    """NAME=VALUE; of what may be a secret only a digest."""
    name, _, value = variable.partition("=")
    return f"{name}={hashlib.sha256(value.encode()).hexdigest()[:12] if is_secret(name) else value}"


def read_packages(names: list[str]) -> State:
    if not names:
        return {}
    found: State = {}
    form = "${Package}\t${db:Status-Want}\t${db:Status-Status}\t${Version}\n"
    for line in out("dpkg-query", "--show", f"--showformat={form}", *names).splitlines():
        name, want, status, version = line.split("\t")
        if status == "installed":
            found[name] = {"version": version, "held": want == "hold"}
    return {f"package {name}": found.get(name.split(":")[0], {}) for name in names}


def read_sysctl(name: str) -> Seen:
    try:
        return {"value": " ".join(Path("/proc/sys", *name.split(".")).read_text().split())}
    except OSError:
        return {}


def read_user(name: str) -> Seen:
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


def read_group(name: str) -> Seen:
    try:
        return {"gid": str(grp.getgrnam(name).gr_gid)}
    except KeyError:
        return {}


def kernel_arguments() -> list[str]:
    """What this kernel was started with, without what names the image and the root device of one boot."""
    words = Path("/proc/cmdline").read_text().split()
    return [word for word in words if not word.startswith(("BOOT_IMAGE=", "initrd=", "root=", "rootflags=", "resume="))]


def main(things: list[str]) -> None:
    by: dict[str, list[str]] = {}
    for thing in things:
        kind, name = thing.split(" ", 1)
        by.setdefault(kind, []).append(name)
    state: State = {}
    for path in by.get("file", ()):
        state[f"file {path}"] = read_file(path)
        if Path(path).name == "manifest.json" and (files := read_manifest(path)):
            state[f"files of {path}"] = {"of": f"file {path}"} | files
        if path == str(DAEMON) and (found := read_options()):
            state[f"options of {path}"] = {"of": f"file {path}"} | found
        if path.startswith("/etc/default/grub.d/"):
            state[f"kernel started for {path}"] = {"of": f"file {path}", "arguments": kernel_arguments()}
    state |= read_units(by.get("unit", []))
    state |= read_packages(by.get("package", []))
    for kind, one in (("sysctl", read_sysctl), ("user", read_user), ("group", read_group)):
        state |= {f"{kind} {name}": one(name) for name in by.get(kind, ())}
    print(json.dumps(state))
