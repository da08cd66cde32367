"""What a preflight checks of hardware, kernel and driver: pure functions to check results, each with what to do.

Numbers are those of AMD's own bring-up notes (project notes on the host). Used by __init__. Add a check: a function here, a
machine that fails it in tests/support/preflight_machines.py.
"""

import re
from collections.abc import Iterator, Sequence

from fleet.preflight.form import Check, CheckResult, Look, Requirements, error, ok, warning

MI300X = {"0x74a1": "MI300X", "0x74b5": "MI300X (virtual function)"}
GFX = 90402  # gfx942
DKMS = "/updates/dkms/"  # where DKMS puts a module; the distribution's own lies below kernel/
SPEED, WIDTH = "32.0 GT/s PCIe", "16"
MEMORY = 192e9  # bytes of RAM a GPU: what AMD's platforms have is 1.5 TB and more for eight


def kernel(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """The kernel is one that AMD lists for the release of ROCm, and the headers of this one and of later ones can be had."""
    facts = look.facts
    release, listed = facts["kernel"], requirements.kernels.get(facts["system"], ())
    if listed and not _begins(release, listed):
        # What is not built on the machine can only be warned of.
        report = error if requirements.driver else warning
        todo = "boot such a kernel of the distribution, and hold it"
        if others := supporting(facts["system"], release, requirements):
            todo += f"; or take {others} (rocm_driver_release, rocm_version)"
        yield report("kernel", release, f"{' or '.join(listed)}, as AMD lists for this release", todo)
    else:
        yield ok("kernel", release)
    if not requirements.driver:
        return
    name = f"linux-headers-{release}"
    states = {one: state for one, state in facts["headers"].items() if not one.startswith("linux-modules-extra-")}
    later = [one for one, state in states.items() if one != name and state == "not there"]
    if states.get(name) == "not there":
        todo = (
            f"`apt-get update`; a kernel pinned by the cloud may need its own source; or boot a kernel that has {name}"
        )
        yield error("headers", f"no package {name}", "headers of the running kernel, for the driver's build", todo)
    elif later:
        todo = f"`apt-mark hold {later[0].replace('headers', 'image', 1)}` there, or a source that has {later[0]}"
        seen = f"no package {', '.join(later)}: a later kernel comes without headers, and boots without the driver"
        yield warning("headers", seen, "headers with each kernel, or a kernel that is held", todo)
    else:
        pinned = (
            ", forbidden by a preference: the first run installs exactly these" if "pinned" in states.values() else ""
        )
        yield ok("headers", f"{name} {states.get(name)}{pinned}")


def supporting(system: str, kernel: str, requirements: Requirements) -> str:
    """Return the known releases that support a system with a kernel: those that list it; else those whose list of kernels is not known."""
    fits = [one for one in requirements.releases if _begins(kernel, one.kernels.get(system, ()))]
    fits = fits or [one for one in requirements.releases if one.kernels.get(system) == ()]
    return " or ".join(f"driver {one.driver} with ROCm {one.rocm}" for one in fits)


def _begins(release: str, kernels: Sequence[str]) -> bool:
    """Whether a kernel is one of these versions: 6.1.0-18-amd64 is 6.1, and 6.12.3 is not."""
    return any(re.match(rf"{re.escape(one)}(?![0-9])", release) for one in kernels)


def secure_boot(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """The firmware lets the driver in: it checks nothing, or DKMS signs with a key that is enrolled."""
    facts, found = look.facts, look.facts["driver"]
    if not requirements.driver:
        return
    if not facts["secure_boot"]:
        yield ok("secure boot", "off" if facts["secure_boot"] is False else "no EFI")
        return
    keys, own = facts["enrolled"], DKMS in found["path"]
    signed = own and (found["signature"] in keys["serials"] or found["signer"] in keys["names"]) and found["signer"]
    if signed or (keys["dkms"] and not own):
        yield ok("secure boot", f"on; {'signed by ' + found['signer'] if signed else 'the key of DKMS'} is enrolled")
        return
    todo = (
        "`mokutil --import /var/lib/shim-signed/mok/MOK.der` (Debian: /var/lib/dkms/mok.pub) there, reboot and enrol it"
        " at the console; or turn Secure Boot off in the firmware"
    )
    seen = f"on: {found['path']} is signed by {found['signer'] or 'nobody'}, whose key is not enrolled" if own else ""
    yield error(
        "secure boot",
        seen or "on: the kernel refuses a driver that is built here",
        "off, or a driver that DKMS signs with an enrolled key",
        todo,
    )


def command_line(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """Kernel arguments: what is missing costs the first run one reboot."""
    missing = [word for word in requirements.arguments if word not in look.facts["cmdline"]]
    if missing:
        yield ok("command line", f"lacks {' '.join(missing)}: the first run sets it and reboots once")
    else:
        yield ok("command line", "has what is wanted" if requirements.arguments else "nothing wanted")


def gpus(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """GPUs on the bus, of the right kind, at full link."""
    found = [gpu for gpu in look.facts["gpus"] if gpu["device"] in MI300X]
    strange = [f"{gpu['address']} {gpu['device']}" for gpu in look.facts["gpus"] if gpu["device"] not in MI300X]
    if len(found) < requirements.gpus:
        seen = f"{len(found)} MI300X on the PCI bus{f', and {chr(44).join(strange)}' if strange else ''}"
        todo = "look at the BMC: is every GPU powered and seated? a virtual machine needs them passed through; or set `gpus`"
        yield error("GPUs", seen, f"{requirements.gpus} (0x74a1, or 0x74b5 in a virtual machine)", todo)
    else:
        yield ok("GPUs", f"{len(found)} {MI300X[found[0]['device']] if found else 'wanted'}")
    slow = [
        f"{gpu['address']} {gpu['speed']} x{gpu['width']}"
        for gpu in found
        if gpu["speed"] and (gpu["speed"], gpu["width"]) != (SPEED, WIDTH)
    ]
    if slow:
        todo = "reseat the GPU or its riser; look at the BIOS setting of the link speed; `lspci -vv` has LnkSta"
        yield warning("links", ", ".join(slow), f"{SPEED} x{WIDTH}", todo)
    elif found:
        yield ok("links", f"{SPEED} x{WIDTH}" if found[0]["speed"] else "not told by the bus")
    odd = [gpu for gpu in found if gpu["compute"] and (gpu["compute"], gpu["memory"]) != ("SPX", "NPS1")]
    if odd:
        seen = ", ".join(f"{gpu['address']} {gpu['compute']}/{gpu['memory']}" for gpu in odd)
        yield warning("partitions", seen, "SPX/NPS1", "`amd-smi set --compute-partition SPX`, memory partition NPS1")


def firmware(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """The GPUs' firmware: the same on all of them, and known to work with the release of ROCm."""
    told = [gpu["vbios"] for gpu in look.facts["gpus"] if gpu["vbios"]], look.facts["bundles"]
    mixed = [", ".join(sorted(set(some))) for some in told if len(set(some)) > 1]
    found = look.facts["bundles"][:1]
    unknown = [
        one
        for one in found
        if requirements.firmware and one not in requirements.firmware and one < requirements.firmware[-1]
    ]
    todo = "update the GPUs' firmware through the BMC, all to one bundle; docs/rules.md has the table"
    if mixed:
        yield warning("firmware", f"GPUs differ: {'; '.join(mixed)}", "the same on all", todo)
    elif unknown:
        yield warning("firmware", f"bundle {unknown[0]}", f"{' or '.join(requirements.firmware)}, or later", todo)
    elif found:
        yield ok("firmware", f"bundle {found[0]}")
    else:
        yield ok("firmware", "not told: amd-smi has it once the driver runs")


def driver(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """The driver: nothing keeps it from loading; it is that of the stack's release, built by DKMS and loaded; every GPU is in its topology."""
    facts, found = look.facts, look.facts["driver"]
    loader = facts["loader"].get("unit", "")
    if facts["blacklists"] and not loader:
        todo = "take the line out there and run `update-initramfs -u`"
        yield error(
            "driver",
            f"amdgpu is blacklisted in {', '.join(facts['blacklists'])}",
            "a driver that may load",
            todo,
        )
    elif found["loaded"] and requirements.driver_packages and found["path"] and DKMS not in found["path"]:
        seen = f"the distribution's own amdgpu: {found['path']}"
        there = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
        if there:
            seen += f"; {there} is installed, and not built for {facts['kernel']}"
            todo = "the first run builds it and reboots; where that fails, `dkms status` and its make.log say why"
            yield warning("driver", seen, f"AMD's, below /lib/modules/{facts['kernel']}{DKMS}", todo)
        else:
            yield ok("driver", f"{seen}; the first run installs AMD's and reboots")
    elif found["loaded"] and found["built_source"] and found["loaded_source"] != found["built_source"]:
        yield warning("driver", "another one is built than is loaded", "the built one", "reboot; the first run does")
    elif found["loaded"]:
        own = [version for version in facts["topology"] if version == GFX]
        if len(own) < requirements.gpus and facts["loader"].get("at_work"):
            yield ok("driver", f"{loader} is loading it: a run waits for that")
        elif len(own) < requirements.gpus:
            seen = f"{found['loaded']} is loaded, KFD has {len(own)} gfx942"
            yield error(
                "driver", seen, f"{requirements.gpus}", "`dmesg | grep amdgpu` says which GPU it refused, and why"
            )
        else:
            yield ok("driver", f"{found['loaded']}, {len(own)} gfx942{f', by {loader}' if loader else ''}")
    else:
        told = f"none yet: {loader} loads it after each boot, a run waits for that" if loader else ""
        yield ok(
            "driver",
            told or ("none yet: the first run installs it" if requirements.driver else "none, and none wanted"),
        )
    yield from _release(look, requirements)
    if facts["backups"]:
        todo = "remove them: modprobe reads every *.conf, people read the rest"
        yield warning("modprobe.d", f"left over: {', '.join(facts['backups'])}", "no copies of old files", todo)


def _release(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """The installed driver is of the release that the stack names, or the run makes it so: nobody claims a pair that is not there."""
    for name, version in look.facts["driver"]["packages"].items():
        there = release_of(version)
        if not there or not requirements.driver_release or there == requirements.driver_release:
            continue
        seen = f"{name} {version}: release {there}"
        if requirements.adopts_driver:
            todo = f"set rocm_driver_release to {there} with its rocm_version, or rocm_driver_adopt to false"
            yield warning(
                "driver release", f"{seen} stays", f"{requirements.driver_release}, as the stack names it", todo
            )
        elif numbers(there) > numbers(requirements.driver_release):
            todo = (
                f"take {there} with its rocm_version into the stack; or keep it with rocm_driver_adopt; or purge {name}"
            )
            yield error("driver release", seen, f"{requirements.driver_release} or an earlier one", todo)
        else:
            yield ok("driver release", f"{seen}; the first run installs {requirements.driver_release} and reboots")


def release_of(version: str) -> str:
    """Return AMD's driver release of a package version: 30.30.4 of 1:6.16.13.30300400-2341068; "" for another form."""
    found = re.search(r"\.(\d\d)(\d\d)(\d\d)\d\d-", version)
    return ".".join(str(int(part)) for part in found.groups()) if found else ""


def numbers(release: str) -> list[int]:
    """Return the numbers of a version, to compare two."""
    return [int(part) for part in re.findall(r"\d+", release)]


def hardware(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """Memory and disks."""
    facts = look.facts
    need, size = MEMORY * requirements.gpus, f"{facts['memory'] / 1e9:.0f} GB"
    if facts["memory"] >= need:
        yield ok("memory", size)
    else:
        yield warning("memory", size, f"{need / 1e9:.0f} GB: weights are read through it", "add memory")
    if facts["nvme"]:
        yield ok("NVMe", f"{len(facts['nvme'])} of them")
    else:
        yield warning("NVMe", "none", "a fast disk for the weights", "weights load slowly from anything else")


def kernel_log(look: Look, requirements: Requirements) -> Iterator[CheckResult]:
    """Lines that alarm people. Two of them are known false alarms, and are named as such."""
    for line in look.facts["notes"]:
        if "invalid ip discovery" in line:
            yield ok("kernel log", f"known false alarm where the GPUs are there (ROCm#3856, #4454): {line}")
        elif "CPER" in line:
            yield ok(
                "kernel log",
                f"known false alarm, a stale record makes exporters say health=0 (device-metrics-exporter#506): {line}",
            )
        else:
            yield warning("kernel log", line, "no such line", "`dmesg | grep amdgpu` there")


CHECKS: Sequence[Check] = (kernel, secure_boot, command_line, gpus, firmware, driver, hardware, kernel_log)
