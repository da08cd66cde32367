"""Runs on the node, as root: remove what earlier runs put there, and restore the original state. Ignores missing things.

In: {units, containers, packages, images, users, groups, sysctls: [name], files: [path: a file, or a folder that is removed only if empty],
trees: [pattern of files, or of folders with their content], models: [folder of a repository's revisions], restores: [file that existed
before], options: {key of daemon.json: value}, keeps: [{words, packages: [name], paths: [pattern], remedy}], until_reboot: [{path: of what
shows that it is there, words}], ends: bool}; any may be absent.
Out: {gone: [what was removed or restored], stays: [what remains, in words], packages: [to be purged next], left: {files, trees, groups}}.
Called by playbooks/teardown.yml through `python3 -c`: before the purge of packages, and after it with `left`. `ends`: the teardown of
the host ends here, which also removes the record of baseline.py.
"""

import base64
import grp
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

RECORD = pathlib.Path("/var/lib/fleet/before.json")
DAEMON = "/etc/docker/daemon.json"
MOUNTS = pathlib.Path("/proc/self/mountinfo")
# Seconds for a call of docker, and for a removal; they do not end if the Docker daemon hangs.
DOCKER, DOCKER_REMOVES = 60, 600
DOCKER_PACKAGES = {"docker.io", "docker-ce"}
DOCKER_PREFIXES = ("docker", "containerd")
# What the Docker packages leave behind when purged; Ubuntu's leave the socket unit, which would start Docker again.
DOCKER_SOCKET = "docker.socket"
DOCKER_LEAVES = {
    "files": ["/etc/docker/key.json"],
    "trees": ["/var/lib/docker", "/var/lib/containerd", "/etc/containerd", "/opt/containerd"],
}

managed, gone, stays = json.load(sys.stdin), [], []


def run(*command: str) -> subprocess.CompletedProcess[str]:
    limit = None if command[0] != "docker" else DOCKER_REMOVES if "rm" in command else DOCKER
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        sys.exit(
            f"`{' '.join(command)}` gave no answer within {limit} s: the Docker daemon hangs\nwanted: a Docker daemon that answers\n"
            "next: `systemctl restart docker` on the node; where that hangs, too, reboot it"
        )


def requested(part: str) -> list:
    return managed.get(part) or []


def baseline() -> dict:
    """Return the record of baseline.py; {} for a host that an earlier release set up."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def remove_units() -> None:
    for unit in requested("units"):
        if run("systemctl", "cat", unit).returncode == 0:
            run("systemctl", "disable", "--now", unit)
            gone.append(f"unit {unit}")
    for name in requested("containers") if shutil.which("docker") else []:
        if run("docker", "rm", "--force", name).stdout.strip():
            gone.append(f"container {name}")


def remove_files() -> None:
    paths = [pathlib.Path(path) for path in requested("files")]
    for path in paths:
        if path.is_symlink() or path.is_file():
            path.unlink()
            gone.append(str(path))
    for path in (match for pattern in requested("trees") for match in matches(pattern)):
        remove_tree(path)
    # The deepest folders first, and only empty ones.
    for path in sorted(paths, key=lambda path: len(path.parts), reverse=True):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
            gone.append(str(path))
    if any(path.parts[:4] == ("/", "etc", "default", "grub.d") for path in paths) and shutil.which("update-grub"):
        run("update-grub")
        lost = kernel_arguments(pathlib.Path("/proc/cmdline").read_text()) - kernel_arguments(next_boot())
        if lost:
            stays.append(f"until the next reboot the kernel runs with {' '.join(sorted(lost))}")


def remove_tree(path: pathlib.Path) -> None:
    """Remove a folder with its content, or a file; of a mounted file system the content alone, and nothing where one is mounted deeper."""
    mounted = mount_points()
    if any(path in point.parents for point in mounted):
        stays.append(f"{path}: file systems are mounted below it")
        return
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    elif path not in mounted:
        shutil.rmtree(path)
    else:
        stays.append(f"{path}: empty, a file system is mounted there")
        for child in path.iterdir():
            remove_tree(child)
        return
    gone.append(str(path))


def mount_points() -> set:
    """Return the paths where a file system is mounted."""
    paths = [line.split()[4] for line in MOUNTS.read_text().splitlines()]
    return {pathlib.Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), path)) for path in paths}


def remove_models() -> None:
    """Remove the revisions that a run fetched, by their record, and unfinished fetches; others may have folders beside them."""
    for path in (match for folder in requested("models") for match in matches(f"{folder}/*")):
        revision = path.name.removeprefix(".incoming-")
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            continue
        unfinished = path.name != revision and path.with_name(f".wanted-{revision}.json").is_file()
        if path.is_symlink() or not path.is_dir() or not (unfinished or is_fetched(path)):
            stays.append(f"{path} ({size(path)}): no record of a fetch by this fleet")
            continue
        shutil.rmtree(path)
        gone.append(str(path))


def is_fetched(path: pathlib.Path) -> bool:
    """Return whether a folder has the record of a fetch (roles/weights) of this repository and revision."""
    try:
        record = json.loads((path / "manifest.json").read_text())
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(record, dict) or not isinstance(record.get("files"), dict):
        return False
    return (record.get("repository"), record.get("revision")) == ("/".join(path.parts[-3:-1]), path.name)


def matches(pattern: str) -> list[pathlib.Path]:
    """Return the paths that match an absolute pattern."""
    return sorted(pathlib.Path("/").glob(pattern.lstrip("/")))


def next_boot() -> str:
    """Return the first `linux` line of the GRUB configuration, which the next boot reads."""
    lines = pathlib.Path("/boot/grub/grub.cfg").read_text(errors="replace").splitlines()
    return next((line for line in lines if line.split()[:1] in (["linux"], ["linuxefi"])), "")


def kernel_arguments(line: str) -> set[str]:
    """Return the arguments of a kernel command line without those for image and root device."""
    return {word for word in line.split() if not re.match(r"(BOOT_IMAGE|initrd|root|rootflags|resume)=", word)}


def restore(record: dict) -> None:
    """Restore the recorded files and kernel parameters."""
    for name in requested("restores"):
        original, path = record.get("files", {}).get(name), pathlib.Path(name)
        if not record and name.startswith("/etc/") and path.is_file():
            stays.append(f"{name} as it is: its original content is not known")
        if not original or "content" not in original or not path.is_file():
            continue
        content = base64.b64decode(original["content"])
        if name == DAEMON:
            content = without_ours(path.read_bytes(), content)
        os.chown(path, original["owner"], original["group"])
        path.chmod(int(original["mode"], 8))
        if content == path.read_bytes():
            continue
        path.write_bytes(content)
        gone.append(f"our changes of {name}")
        if name == DAEMON and not DOCKER_PACKAGES & {*packages}:
            stays.append(
                "until its next restart the Docker daemon runs with the fleet's options: a restart would interrupt its containers"
            )
    lost = []
    for name in requested("sysctls"):
        value = record.get("sysctls", {}).get(name)
        path = pathlib.Path("/proc/sys", *name.split("."))
        if value is None:
            lost.append(f"{name}={' '.join(path.read_text().split())}")
        elif path.read_text().split() != value.split():
            path.write_text(value)
            gone.append(f"our value of {name}")
    if lost:
        stays.append(f"until the next reboot {', '.join(lost)}: the original value is not known")


def without_ours(current: bytes, original: bytes) -> bytes:
    """Return daemon.json without the roles' options: the original bytes if nobody else changed it, else with the other options."""
    options, old = json.loads(current), json.loads(original or b"{}")
    for key in managed.get("options") or {}:
        if key in old:
            options[key] = old[key]
        else:
            options.pop(key, None)
    return original if options == old else json.dumps(options, indent=2).encode() + b"\n"


def remove_images(record: dict) -> None:
    for reference in requested("images") if shutil.which("docker") else []:
        for image in json.loads(run("docker", "image", "inspect", reference).stdout or "[]"):
            if image["Id"] in record.get("images", ()):
                continue
            names = [
                *(image["RepoTags"] or ()),
                *(image["RepoDigests"] or ()),
            ]  # removing the last tag also removes the digests
            why = run("docker", "image", "rm", *(names or [image["Id"]])).stderr.strip()
            if run("docker", "image", "inspect", image["Id"]).returncode == 0:
                stays.append(f"image {reference}: {why}")
            else:
                gone.append(f"image {reference}")


def purge_set(names: list[str], *options: str) -> set[str]:
    """Return the packages that apt would remove with these."""
    output = run("apt-get", "--simulate", *options, "purge", *names).stdout
    return {line.split()[1].partition(":")[0] for line in output.splitlines() if line.startswith(("Purg ", "Remv "))}


def choose_packages(record: dict) -> tuple[list[str], dict]:
    """Return the packages to purge (those that a run installed, and unneeded dependencies), and what they leave behind."""
    ours = [name for name in requested("packages") if version_of(name)]
    docker_parts = [name for name in (*ours, *requested("units")) if name.startswith(DOCKER_PREFIXES)]
    users = users_of_docker() if docker_parts else []
    if users:
        ours = [name for name in ours if name not in docker_parts]
        stays.append(f"{', '.join(docker_parts)}: others use it ({', '.join(users)})")
    for name in list(ours):
        if needed := purge_set([name]) - {*ours} - came_along(record):
            ours.remove(name)
            stays.append(f"{name}: {', '.join(sorted(needed))} needs it")
    if users or DOCKER_PACKAGES & {*requested("packages")} - {*ours}:
        managed["units"] = [unit for unit in requested("units") if unit not in docker_parts]
    if not ours:
        return [], {}
    others = purge_set(ours, "--auto-remove") & came_along(record)
    left = {"files": [name for name in DOCKER_LEAVES["files"] if was_not_there(record, name)]}
    left["trees"] = [
        name if was_not_there(record, name) else f"{name}/*"
        for name in DOCKER_LEAVES["trees"]
        if was_empty(record, name)
    ]
    left["groups"] = [] if not record or "docker" in record["groups"] else ["docker"]
    if not DOCKER_PACKAGES & {*ours}:
        return sorted({*ours, *others}), {}
    managed["units"] = [DOCKER_SOCKET, *requested("units")]
    if pathlib.Path("/sys/class/net/docker0").exists():
        stays.append("until the next reboot Docker's bridge docker0, its firewall rules and net.ipv4.ip_forward")
    return sorted({*ours, *others}), left


def came_along(record: dict) -> set[str]:
    """Return the automatically installed packages that the record does not have."""
    automatic = set(run("apt-mark", "showauto").stdout.split())
    return automatic - {*record["packages"]} if record else set()


def was_not_there(record: dict, path: str) -> bool:
    return path in record.get("files", {}) and record["files"][path] is None


def was_empty(record: dict, path: str) -> bool:
    return was_not_there(record, path) or bool((record.get("files", {}).get(path) or {}).get("empty"))


def users_of_docker() -> list[str]:
    """Return running containers and volumes of others in the Docker that a run installed."""
    if not shutil.which("docker"):
        return []
    containers = run("docker", "ps", "--format", "container {{.Names}}").stdout.splitlines()
    return [*containers, *run("docker", "volume", "ls", "--format", "volume {{.Name}}").stdout.splitlines()]


def report_kept() -> None:
    for kept in requested("keeps"):
        things = [f"{name} {version}" for name in kept.get("packages") or [] if (version := version_of(name))]
        things += [f"{path} ({size(path)})" for pattern in kept.get("paths") or [] for path in matches(pattern)]
        if things:
            stays.append(f"{kept['words']}: {', '.join(things)}; {kept['remedy']}")


def version_of(name: str) -> str:
    words = run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name).stdout.split()
    return words[1] if words[:1] == ["installed"] else ""


def size(path: pathlib.Path) -> str:
    total = float(sum(file.lstat().st_size for file in path.rglob("*")))
    for unit in ("bytes", "kB", "MB", "GB"):
        if total < 1000 or unit == "GB":
            break
        total /= 1000
    return f"{total:.3g} {unit}"


def remove_users() -> None:
    """Remove the users, each with another group: `userdel` would also remove its own, which may be of another role."""
    for name in requested("users"):
        if run("id", "--user", name).returncode != 0:
            continue
        run("usermod", "--gid", "nogroup", name)
        removal = run("userdel", name)
        if removal.returncode == 0:
            gone.append(f"user {name}")
        else:
            stays.append(f"user {name}: {removal.stderr.strip()}")


def remove_groups() -> None:
    for name in requested("groups"):
        group = next((entry for entry in grp.getgrall() if entry.gr_name == name), None)
        if group and not group.gr_mem and run("groupdel", name).returncode == 0:
            gone.append(f"group {name}")


def remove_record(record: dict) -> None:
    """Remove the record, empty folders that a run made, and Ansible's empty folders; make a recorded empty folder again.

    dpkg removes a folder that no other package owns (/opt) together with a package.
    """
    RECORD.unlink(missing_ok=True)
    home = pathlib.Path(f"~{os.environ.get('SUDO_USER', 'root')}").expanduser()
    for path in (home / ".ansible" / "tmp", home / ".ansible"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    files = record.get("files", {})
    for name in sorted(files, key=lambda name: name.count("/"), reverse=True):
        path, original = pathlib.Path(name), files[name]
        if original is None and path.is_dir() and not any(path.iterdir()):
            path.rmdir()
            gone.append(name)
        elif original and "empty" in original and not path.exists():
            path.mkdir()
            os.chown(path, original["owner"], original["group"])
            path.chmod(int(original["mode"], 8))


record = baseline()
stays += [
    f"until the next reboot {kept['words']}"
    for kept in requested("until_reboot")
    if pathlib.Path(kept["path"]).exists()
]
packages, left = choose_packages(record)
remove_units()
remove_images(record)
remove_models()  # before the files, which show unfinished fetches
remove_files()
restore(record)
remove_users()
remove_groups()
report_kept()
if managed.get("ends"):
    remove_record(record)
run("systemctl", "daemon-reload")
run("systemctl", "reset-failed", *requested("units"))
print(json.dumps({"gone": gone, "stays": stays, "packages": packages, "left": left}))
