"""What a preflight checks of the system around the hardware: disks, clock, network, packages, other owners. Pure functions to check results.

Used by __init__. Add a check: a function here, a machine that fails it in tests/support/preflight_machines.py.
"""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fleet.managed.owner import Owner, refusal
from fleet.preflight import hardware
from fleet.preflight.form import Check, CheckResult, Facts, Filesystem, Look, Requirements, Space, error, ok, warning

DOCKER = "/var/lib/docker"  # the plan's default; the engine on the machine says where its images lie
CLOCK = 300.0  # seconds; more, and certificates and package lists are judged wrongly


def system(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """Distribution, architecture, systemd, cgroups."""
    facts = look.facts
    known = ", ".join(sorted(requirements.kernels))
    if requirements.kernels and facts["system"] not in requirements.kernels:
        todo = "reinstall the machine with one of them"
        if others := hardware.supporting(facts["system"], facts["kernel"], requirements):
            todo += f"; or take {others} (rocm_driver_release, rocm_version)"
        yield error("system", facts["system"], f"one of {known}", todo)
    elif facts["arch"] != "x86_64":
        yield error("system", facts["arch"], "x86_64", "MI300X machines are x86_64: is it the right one?")
    elif not facts["systemd"]:
        yield error("system", "no systemd", "systemd as init", "replicas and long steps are units of it")
    elif facts["cgroup"] != 2:
        yield warning("system", "cgroups v1", "v2", "boot with systemd.unified_cgroup_hierarchy=1")
    else:
        yield ok("system", f"{facts['system']}, {facts['arch']}")


def space(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """Free space on each disk for all that will lie on it; of images where the engine keeps them, which may be one of two places.

    On a disk that is still to be made, `disks` has it.
    """
    disks: dict[int, list[Space]] = {}
    room: dict[int, int] = {}
    unmade = [one for one, seen in _named(look, requirements) if seen.get("mounted") is not True]
    for one in requirements.space:
        if any(other.holds(one.path) for other in unmade):
            continue
        places = look.facts["images"] if one.path == DOCKER else {one.path: look.facts["space"][one.path]}
        for path, place in places.items():
            needs = disks.setdefault(place["device"], [])
            if one.path != DOCKER or DOCKER not in [other.path for other in needs]:
                needs.append(dataclasses.replace(one, shown=path))
            room[place["device"]] = place["free"]
    for device, needs in disks.items():
        free = room[device]
        open_needs = [one for one in needs if not look.facts["space"][one.path]["filled"]]
        need = sum(one.bytes for one in open_needs)
        paths = ", ".join(dict.fromkeys(one.shown for one in needs))
        told = f"{free / 1e9:.0f} GB free at {paths}"
        if need > free:
            what = " and ".join(f"{one.bytes / 1e9:.0f} GB for {one.what}" for one in open_needs)
            yield error(
                "space",
                told,
                what,
                f"make room there (`df -h {shlex.quote(needs[0].shown)}`), or put another disk there",
            )
        else:
            yield ok("space", f"{told}, {need / 1e9:.0f} GB needed")


def clock(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """The clock agrees with this machine's."""
    if abs(look.ahead) > CLOCK:
        seen = f"{abs(look.ahead):.0f} s {'ahead of' if look.ahead > 0 else 'behind'} this machine's"
        yield error(
            "clock",
            seen,
            f"less than {CLOCK:.0f} s",
            "`timedatectl` there: is a time service running? or set this machine's",
        )
    else:
        yield ok("clock", f"within {max(1.0, abs(look.ahead)):.0f} s")


def network(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """Every address that the plan uses on this machine, and apt's own sources, answer from there."""
    told = look.facts["reach"]
    for address, why in told.items():
        if why:
            report = error if address in requirements.addresses else warning
            todo = f"`curl -v {shlex.quote(f'telnet://{address}')}` there; a name, a route, a firewall or a proxy is missing"
            yield report("network", f"{address}: {why}", "a TCP connection from the node", todo)
    if not any(told.values()):
        yield ok("network", f"{len(told)} addresses answer")


def packages(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """apt is free, nothing is half installed, no reboot is owed."""
    facts = look.facts
    if facts["locks"]:
        held = facts["locks"][0]
        seen = f"locked by process {held['pid']} ({held['command']}{', of ' + held['unit'] if held['unit'] else ''}): {held['path']}"
        yield warning(
            "apt",
            seen,
            "nobody else who installs",
            "let it end: a run waits for host_lock_timeout (15 minutes)",
        )
    elif facts["first_boot"]:
        seen = "cloud-init is at work: the machine's first boot is not over"
        yield warning(
            "apt",
            seen,
            "a first boot that is over",
            "let it end: a run waits for host_lock_timeout (15 minutes)",
        )
    elif facts["half"]:
        yield warning(
            "apt",
            f"half installed: {', '.join(facts['half'])}",
            "whole packages",
            "`dpkg --configure -a`; the first run does",
        )
    else:
        yield ok("apt", "free")
    if facts["reboot"] is not None:
        why = f" for {', '.join(facts['reboot'])}" if facts["reboot"] else ""
        yield warning(
            "reboot",
            f"the system asks for one{why}",
            "none owed",
            "reboot in a window of yours; the driver is built for the running kernel",
        )


def owner(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """No other stack owns the machine. What else is wrong there may be that stack's doing, so this is told first."""
    found = Owner.read(look.facts["owner"])
    if found and not found.is_of(requirements.stack):
        yield error("owner", **refusal(found, requirements.target, requirements.stack))
    else:
        yield ok("owner", f"{found.id} since {found.since}" if found else "nobody")


def others(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """No orchestrator owns the machine, no unit of others has our ports."""
    facts = look.facts
    if facts["others"]:
        yield error(
            "orchestrator",
            f"{', '.join(facts['others'])} runs here",
            "a machine of its own",
            "drain it there and stop it: two owners restart each other's GPUs",
        )
    for port, unit in requirements.ports.items():
        held = facts["ports"].get(str(port))
        if held and not _ours(held, unit):
            who = held["command"] or "a process that cannot be seen"
            seen = f"{port} is taken by {who}{' (' + held['unit'] + ')' if held['unit'] else ''}"
            yield error("ports", seen, f"free for {unit}", "stop it, or give the replica another port")


def engine(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """Docker, where it is there already, answers; one of other packages than the stack's is adopted where it is new enough."""
    found = look.facts["docker"]
    other = found["package"] and requirements.docker_packages and found["package"] not in requirements.docker_packages
    # What an earlier run of this stack installed is replaced by it, not adopted.
    adopted = bool(other and requirements.adopts_docker and not found["ours"])
    if found["there"] and not found["version"]:
        yield error(
            "Docker",
            "installed, and does not answer",
            "an engine that answers, or none",
            "`systemctl status docker`, `journalctl -u docker` there",
        )
    elif adopted and hardware.numbers(found["version"]) < hardware.numbers(requirements.oldest_docker):
        todo = f"upgrade {found['package']} there; or purge it, and the first run installs {requirements.docker_packages[0]}"
        yield error(
            "Docker", f"{found['version']} of {found['package']}", f"{requirements.oldest_docker} or later", todo
        )
    else:
        kept = f" of {found['package']}: adopted as it is, and never taken off" if adopted else ""
        yield ok("Docker", f"{found['version']}{kept}" if found["version"] else "none yet: the first run installs it")


def sources(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """No source of others brings AMD's packages of another release; of the same repository it names its key."""
    found = look.facts["repositories"] if requirements.repositories else []
    strange = [one for one in found if not one["same"]]
    keyless = [one for one in found if one["same"] and not one["key"].startswith("/")]
    if strange:
        files = " ".join(dict.fromkeys(one["file"] for one in strange))
        seen = ", ".join(dict.fromkeys(f"{one['url']} in {one['file']}" for one in strange))
        todo = f"`mv {files} /root/` there; or set rocm_version and rocm_driver_release to what is there"
        yield error("sources", seen, f"no AMD repository but {' and '.join(requirements.repositories)}", todo)
    elif keyless:
        seen = f"{keyless[0]['url']} in {keyless[0]['file']} names no key file"
        todo = f"`mv {keyless[0]['file']} /root/` there: the first run writes this source itself"
        yield error("sources", seen, "a key file behind signed-by: apt takes no repository with two keys", todo)
    elif found:
        yield ok("sources", f"{found[0]['file']} has the same repository: its key file {found[0]['key']} is used")


def _ours(held: Mapping[str, Any], unit: str) -> bool:
    """Whether a port is held by the replica's unit, or by the container of its name."""
    return held["unit"] in (unit, f"container {unit.removesuffix('.service')}")


FIRST: Sequence[Check] = (owner, system)


def disks(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """Each disk of host_filesystems is there, empty or ours, and large enough for what will lie on it."""
    for one, seen in _named(look, requirements):
        place = f"disk {one.serial} for {one.path}"
        state, why = seen.get("state"), " ".join(str(seen.get("why") or "no answer").split())[:200]
        if state not in ("empty", "ready"):
            wish = "an empty disk, or one on which we made a file system; `lsblk -dno NAME,SERIAL` there names them"
            todo = "correct host_filesystems; what the disk holds is never removed from here"
            yield error("disks", f"{place}: {why}", wish, todo)
            continue
        size = seen["bytes"]
        needs = [need for need in requirements.space if one.holds(need.path)]
        total = sum(need.bytes for need in needs)
        if seen.get("mounted") is not True and total > size:
            what = " and ".join(f"{need.bytes / 1e9:.0f} GB for {need.what}" for need in needs)
            yield error("disks", f"{place} has {size / 1e9:.0f} GB", what, "name a larger disk")
        else:
            yield ok("disks", f"{place}: {state}, {size / 1e9:.0f} GB")


def _named(look: Look, requirements: Requirements) -> list[tuple[Filesystem, Facts]]:
    """The named disks, each with what the machine says of it; {} where it says nothing of it."""
    by_serial = {one["serial"]: one for one in look.facts["disks"]}
    return [(one, by_serial.get(one.serial) or {}) for one in requirements.filesystems]


CHECKS: Sequence[Check] = (space, disks, clock, network, sources, packages, others, engine)
