"""The preflight's checks of the system: disks, clock, network, packages, other owners. Pure functions that yield results.

Called by __init__. To add a check: a function here, and a machine that fails it in tests/support/preflight_machines.py.
"""

import dataclasses
import shlex
from collections.abc import Iterator, Sequence

from fleet.managed.owner import Owner, refusal
from fleet.preflight import form, hardware
from fleet.preflight.form import CheckResult, Observation, Requirements, error, ok, warning

DOCKER = "/var/lib/docker"  # the requirements' folder for images; the machine's Docker daemon may have another one
WANTED_DISK = "an empty disk, or one with a file system of an earlier run; `lsblk -dno NAME,SERIAL` there names them"
CLOCK = 300.0  # seconds: with a larger difference, checks of certificates and package lists fail


def system(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check distribution, architecture, systemd and cgroups."""
    facts = observation.facts
    systems = ", ".join(sorted(requirements.kernels))
    if requirements.kernels and facts["system"] not in requirements.kernels:
        todo = "reinstall the machine with one of them"
        if releases := hardware.supporting_releases(facts["system"], facts["kernel"], requirements):
            todo += f"; or set {releases} (rocm_driver_release, rocm_version)"
        yield error("system", facts["system"], f"one of {systems}", todo)
    elif facts["arch"] != "x86_64":
        yield error("system", facts["arch"], "x86_64", "check the address: MI300X machines are x86_64")
    elif not facts["systemd"]:
        yield error("system", "no systemd", "systemd as init", "use a machine with systemd: replicas are its units")
    elif facts["cgroup"] != 2:
        yield warning("system", "cgroups v1", "v2", "boot with systemd.unified_cgroup_hierarchy=1")
    else:
        yield ok("system", f"{facts['system']}, {facts['arch']}")


def space(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check the free space of each disk for its content; for images in the Docker daemon's folder, which may be one of two.

    The check `disks` covers disks that have no file system yet.
    """
    facts = observation.facts
    disks: dict[int, list[form.Space]] = {}
    free_bytes: dict[int, int] = {}
    named = _named_disks(observation, requirements)
    unmounted = [disk for disk, disk_facts in named if disk_facts.get("mounted") is not True]
    for space in requirements.space:
        if any(disk.holds(space.path) for disk in unmounted):
            continue
        folders = facts["images"] if space.path == DOCKER else {space.path: facts["space"][space.path]}
        for path, folder in folders.items():
            needs = disks.setdefault(folder["device"], [])
            if space.path != DOCKER or DOCKER not in [need.path for need in needs]:
                needs.append(dataclasses.replace(space, label=path))
            free_bytes[folder["device"]] = folder["free"]
    for device, needs in disks.items():
        open_needs = [need for need in needs if not facts["space"][need.path]["filled"]]
        total = sum(need.bytes for need in open_needs)
        paths = ", ".join(dict.fromkeys(need.label for need in needs))
        seen = f"{free_bytes[device] / 1e9:.0f} GB free at {paths}"
        if total > free_bytes[device]:
            todo = f"make room there (`df -h {shlex.quote(needs[0].label)}`), or mount a larger disk there"
            yield error("space", seen, _content(open_needs), todo)
        else:
            yield ok("space", f"{seen}, {total / 1e9:.0f} GB needed")


def _content(needs: Sequence[form.Space]) -> str:
    return " and ".join(f"{need.bytes / 1e9:.0f} GB for {need.what}" for need in needs)


def clock(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that the machine's clock agrees with this machine's."""
    ahead = observation.clock_ahead
    if abs(ahead) > CLOCK:
        seen = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
        todo = "`timedatectl` there: is a time service running? or set this machine's clock"
        yield error("clock", seen, f"less than {CLOCK:.0f} s", todo)
    else:
        yield ok("clock", f"within {max(1.0, abs(ahead)):.0f} s")


def network(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that the machine reaches every address that roles use, and the servers of apt's sources."""
    failures = observation.facts["reach"]
    for address, failure in failures.items():
        if failure:
            report = error if address in requirements.addresses else warning
            todo = f"`curl -v {shlex.quote(f'telnet://{address}')}` there; correct its name, route, firewall or proxy"
            yield report("network", f"{address}: {failure}", "a TCP connection from the node", todo)
    if not any(failures.values()):
        yield ok("network", f"{len(failures)} addresses answer")


def packages(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that no other process uses apt, no package is half installed, and no reboot is pending."""
    facts = observation.facts
    todo = "let it end: a run waits for it up to host_lock_timeout (15 minutes)"
    if facts["locks"]:
        lock = facts["locks"][0]
        process = f"{lock['pid']} ({lock['command']}{', of ' + lock['unit'] if lock['unit'] else ''})"
        seen = f"locked by process {process}: {lock['path']}"
        yield warning("apt", seen, "no other process that installs packages", todo)
    elif facts["first_boot"]:
        yield warning("apt", "cloud-init still runs the machine's first boot", "a finished first boot", todo)
    elif facts["half"]:
        todo = "`dpkg --configure -a` there; otherwise the first run does that"
        yield warning("apt", f"half installed: {', '.join(facts['half'])}", "fully installed packages", todo)
    else:
        yield ok("apt", "free")
    if facts["reboot"] is not None:
        seen = f"pending{' for ' + ', '.join(facts['reboot']) if facts['reboot'] else ''}"
        todo = "reboot when that suits you: the first run builds the driver for the running kernel"
        yield warning("reboot", seen, "no pending reboot", todo)


def boot(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that a run has confirmed the boot configuration (roles/host/tasks/confirm.yml), and that the host did not go back to an earlier one."""
    facts = observation.facts["boot"]
    if record := facts["reverted"]:
        failed = f"; failed units: {', '.join(record['failed'])}" if record["failed"] else ""
        seen = (
            f"the host went back to its earlier kernel arguments by itself at {record['when']}: no run had confirmed "
        )
        seen += f"{' '.join(record['words'])} within {record['timeout']} s after its boot{failed}"
        todo = "if the run was killed, `pulumi up` tries them again; else look at that boot (`journalctl --list-boots`)"
        yield warning("boot", seen, "a run that reaches the host in that time (host_confirm_timeout)", todo)
    elif facts["armed"]:
        seen = "no run has confirmed the kernel arguments: the host goes back to its earlier ones after a boot"
        yield warning("boot", seen, "a run that ends well", "`pulumi up` goes on where the last run stopped")


def owner(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that no other stack owns the machine. Comes first: another owner may be the reason for every other finding."""
    stack = Owner.read(observation.facts["owner"])
    if stack and not stack.is_of(requirements.stack):
        yield error("owner", **refusal(stack, requirements.target, requirements.stack))
    else:
        yield ok("owner", f"{stack.id} since {stack.since}" if stack else "nobody")


def other_users(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that no orchestrator runs on the machine, and that the replicas' ports are free."""
    facts = observation.facts
    if facts["others"]:
        todo = "drain the machine there and stop it: two owners restart each other's GPUs"
        yield error(
            "orchestrator", f"{', '.join(facts['others'])} runs here", "a machine without an orchestrator", todo
        )
    for port, unit in requirements.ports.items():
        process = facts["ports"].get(str(port))
        if process and process["unit"] not in (unit, f"container {unit.removesuffix('.service')}"):
            command = process["command"] or "a process without a visible command"
            seen = f"{command}{' (' + process['unit'] + ')' if process['unit'] else ''} listens on {port}"
            yield error("ports", seen, f"{port} free for {unit}", "stop that process, or give the replica another port")


def docker_daemon(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that an installed Docker daemon answers, and is new enough if it is adopted: not of the stack's packages."""
    docker = observation.facts["docker"]
    version, package, stack_packages = docker["version"], docker["package"], requirements.docker_packages
    # A run replaces what an earlier run of this stack installed, and does not adopt it.
    foreign = package and stack_packages and package not in stack_packages
    adopted = foreign and requirements.adopts_docker and not docker["ours"]
    if docker["there"] and not version:
        todo = "`systemctl status docker`, `journalctl -u docker` there"
        yield error("Docker", "installed, but does not answer", "a Docker daemon that answers, or none", todo)
    elif adopted and hardware.version_numbers(version) < hardware.version_numbers(requirements.oldest_docker):
        todo = f"upgrade {package} there; or purge it, and the first run installs {stack_packages[0]}"
        yield error("Docker", f"{version} of {package}", f"{requirements.oldest_docker} or later", todo)
    else:
        note = f" of {package}: adopted; a teardown keeps it" if adopted else ""
        yield ok("Docker", f"{version}{note}" if version else "none yet: the first run installs it")


def sources(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that no other apt source has AMD packages of another release, and that one of the same repository names its key file."""
    repositories = observation.facts["repositories"] if requirements.repositories else []
    strange = [repository for repository in repositories if not repository["same"]]
    keyless = [
        repository for repository in repositories if repository["same"] and not repository["key"].startswith("/")
    ]
    if strange:
        files = " ".join(dict.fromkeys(repository["file"] for repository in strange))
        seen = ", ".join(dict.fromkeys(f"{repository['url']} in {repository['file']}" for repository in strange))
        todo = f"`mv {files} /root/` there; or set rocm_version and rocm_driver_release to the release there"
        yield error("sources", seen, f"no AMD repository but {' and '.join(requirements.repositories)}", todo)
    elif keyless:
        seen = f"{keyless[0]['url']} in {keyless[0]['file']} names no key file"
        todo = f"`mv {keyless[0]['file']} /root/` there: the first run writes this source itself"
        yield error("sources", seen, "a key file behind signed-by: apt refuses a repository with two keys", todo)
    elif repositories:
        file, key = repositories[0]["file"], repositories[0]["key"]
        yield ok("sources", f"{file} has the same repository: the first run uses its key file {key}")


FIRST: Sequence[form.Check] = (owner, system)


def disks(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that each disk of host_filesystems exists, is empty or has a file system of an earlier run, and is large enough."""
    for disk, facts in _named_disks(observation, requirements):
        label = f"disk {disk.serial} for {disk.path}"
        state, reason = facts.get("state"), " ".join(str(facts.get("why") or "no answer").split())[:200]
        if state not in ("empty", "ready"):
            todo = "correct host_filesystems; a run never removes the content of a disk"
            yield error("disks", f"{label}: {reason}", WANTED_DISK, todo)
            continue
        size = facts["bytes"]
        needs = [need for need in requirements.space if disk.holds(need.path)]
        if facts.get("mounted") is not True and sum(need.bytes for need in needs) > size:
            yield error("disks", f"{label} has {size / 1e9:.0f} GB", _content(needs), "name a larger disk")
        else:
            yield ok("disks", f"{label}: {state}, {size / 1e9:.0f} GB")


def _named_disks(observation: Observation, requirements: Requirements) -> list[tuple[form.Filesystem, form.Facts]]:
    """Return the disks of host_filesystems, each with the machine's facts about it; {} without any."""
    by_serial = {disk["serial"]: disk for disk in observation.facts["disks"]}
    return [(disk, by_serial.get(disk.serial) or {}) for disk in requirements.filesystems]


CHECKS: Sequence[form.Check] = (space, disks, clock, network, sources, packages, boot, other_users, docker_daemon)
FOR_SERVING: Sequence[form.Check] = (sources, docker_daemon)
