"""The preflight's checks of hardware, kernel and driver: pure functions that yield results, each with the next step.

The numbers are from AMD's own bring-up notes (project notes on the host). Called by __init__. To add a check: a function here, and
a machine that fails it in tests/support/preflight_machines.py.
"""

import re
from collections.abc import Iterator, Sequence

from fleet.preflight.form import Check, CheckResult, Observation, Requirements, error, ok, warning

MI300X = {"0x74a1": "MI300X", "0x74b5": "MI300X (virtual function)"}
GFX = 90402  # gfx942
DKMS = "/updates/dkms/"  # DKMS's folder of modules; the distribution's own are below kernel/
SPEED, WIDTH = "32.0 GT/s PCIe", "16"
MEMORY = 192e9  # bytes of RAM per GPU: AMD's platforms have 1.5 TB and more for eight


def kernel(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that AMD lists the kernel for the ROCm release, and that headers of this kernel and of later ones are available."""
    facts = observation.facts
    release, supported = facts["kernel"], requirements.kernels.get(facts["system"], ())
    if supported and not _is_version_of(release, supported):
        # Only a driver that is built on the machine needs such a kernel.
        report = error if requirements.driver else warning
        todo = "boot such a kernel of the distribution, and hold it"
        if releases := supporting_releases(facts["system"], release, requirements):
            todo += f"; or set {releases} (rocm_driver_release, rocm_version)"
        yield report("kernel", release, f"{' or '.join(supported)}, which AMD lists for this release", todo)
    else:
        yield ok("kernel", release)
    if not requirements.driver:
        return
    name = f"linux-headers-{release}"
    states = {key: state for key, state in facts["headers"].items() if not key.startswith("linux-modules-extra-")}
    later = [key for key, state in states.items() if key != name and state == "not there"]
    if states.get(name) == "not there":
        todo = (
            "`apt-get update`; a kernel that the cloud pins may need another apt source; or boot a kernel with headers"
        )
        yield error("headers", f"no package {name}", "headers of the running kernel, for the driver's build", todo)
    elif later:
        todo = f"`apt-mark hold {later[0].replace('headers', 'image', 1)}` there, or an apt source with {later[0]}"
        seen = f"no package {', '.join(later)}: after a kernel upgrade the driver is not built, and not loaded"
        yield warning("headers", seen, "headers with each kernel, or a kernel that is held", todo)
    else:
        pinned = ", forbidden by apt preferences; the first run installs them anyway"
        yield ok("headers", f"{name} {states.get(name)}{pinned if 'pinned' in states.values() else ''}")


def supporting_releases(system: str, kernel: str, requirements: Requirements) -> str:
    """Return the known releases that list this kernel for the system, or else those whose list of kernels is not known."""
    releases = [one for one in requirements.releases if _is_version_of(kernel, one.kernels.get(system, ()))]
    releases = releases or [one for one in requirements.releases if system in one.kernels and not one.kernels[system]]
    return " or ".join(f"driver {one.driver} with ROCm {one.rocm}" for one in releases)


def _is_version_of(release: str, kernels: Sequence[str]) -> bool:
    """Whether a kernel release is of one of these versions: 6.1.0-18-amd64 is of 6.1, 6.12.3 is not."""
    return any(re.match(rf"{re.escape(kernel)}(?![0-9])", release) for kernel in kernels)


def secure_boot(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that the firmware allows the driver: Secure Boot is off, or DKMS signs with an enrolled key."""
    facts, module = observation.facts, observation.facts["driver"]
    if not requirements.driver:
        return
    if not facts["secure_boot"]:
        yield ok("secure boot", "off" if facts["secure_boot"] is False else "no EFI")
        return
    keys, from_dkms, signer = facts["enrolled"], DKMS in module["path"], module["signer"]
    signed = from_dkms and signer and (module["signature"] in keys["serials"] or signer in keys["names"])
    if signed or (keys["dkms"] and not from_dkms):
        yield ok("secure boot", f"on; the key of {signer if signed else 'DKMS'} is enrolled")
        return
    todo = (
        "`mokutil --import /var/lib/shim-signed/mok/MOK.der` (Debian: /var/lib/dkms/mok.pub) there, reboot and enrol it"
        " at the console; or turn Secure Boot off in the firmware"
    )
    seen = "on: the kernel refuses a driver that is built here"
    if from_dkms:
        signature = f"signed by {signer}, whose key is not enrolled" if signer else "not signed"
        seen = f"on: {module['path']} is {signature}"
    yield error("secure boot", seen, "off, or a driver that DKMS signs with an enrolled key", todo)


def command_line(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Report kernel arguments that are missing: the first run adds them and reboots once."""
    absent = [word for word in requirements.arguments if word not in observation.facts["cmdline"]]
    if absent:
        yield ok("command line", f"lacks {' '.join(absent)}: the first run adds it and reboots once")
    else:
        yield ok("command line", "has every argument" if requirements.arguments else "needs no argument")


def gpus(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check the GPUs: their number and kind, the speed of their links, their partitions."""
    mi300x = [gpu for gpu in observation.facts["gpus"] if gpu["device"] in MI300X]
    strange = [f"{gpu['address']} {gpu['device']}" for gpu in observation.facts["gpus"] if gpu["device"] not in MI300X]
    if len(mi300x) < requirements.gpus:
        seen = f"{len(mi300x)} MI300X on the PCI bus{f', and {chr(44).join(strange)}' if strange else ''}"
        todo = "look at the BMC: is every GPU powered and seated? a virtual machine needs them passed through; or set `gpus`"
        yield error("GPUs", seen, f"{requirements.gpus} (0x74a1, or 0x74b5 in a virtual machine)", todo)
    else:
        yield ok("GPUs", f"{len(mi300x)} {MI300X[mi300x[0]['device']]}" if mi300x else "none, and none wanted")
    slow = [
        f"{gpu['address']} {gpu['speed']} x{gpu['width']}"
        for gpu in mi300x
        if gpu["speed"] and (gpu["speed"], gpu["width"]) != (SPEED, WIDTH)
    ]
    if slow:
        todo = "reseat the GPU or its riser; look at the BIOS setting of the link speed; `lspci -vv` has LnkSta"
        yield warning("links", ", ".join(slow), f"{SPEED} x{WIDTH}", todo)
    elif mi300x:
        yield ok("links", f"{SPEED} x{WIDTH}" if mi300x[0]["speed"] else "the bus does not report them")
    odd = [gpu for gpu in mi300x if gpu["compute"] and (gpu["compute"], gpu["memory"]) != ("SPX", "NPS1")]
    if odd:
        seen = ", ".join(f"{gpu['address']} {gpu['compute']}/{gpu['memory']}" for gpu in odd)
        yield warning("partitions", seen, "SPX/NPS1", "`amd-smi set --compute-partition SPX`, memory partition NPS1")


def firmware(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check the GPUs' firmware: the same on all of them, and known to work with the ROCm release."""
    bundles = observation.facts["bundles"]
    vbios = [gpu["vbios"] for gpu in observation.facts["gpus"] if gpu["vbios"]]
    mixed = [", ".join(sorted(set(versions))) for versions in (vbios, bundles) if len(set(versions)) > 1]
    supported = requirements.firmware
    unknown = [bundle for bundle in bundles[:1] if supported and bundle not in supported and bundle < supported[-1]]
    todo = "update the GPUs' firmware through the BMC, all to one bundle; docs/rules.md has the table"
    if mixed:
        yield warning("firmware", f"GPUs differ: {'; '.join(mixed)}", "the same on all", todo)
    elif unknown:
        yield warning("firmware", f"bundle {unknown[0]}", f"{' or '.join(supported)}, or later", todo)
    elif bundles:
        yield ok("firmware", f"bundle {bundles[0]}")
    else:
        yield ok("firmware", "unknown: amd-smi reports it once the driver runs")


def driver(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check the driver: it may load, DKMS built it, it is loaded, of the stack's release, and has every GPU in its topology."""
    facts, module = observation.facts, observation.facts["driver"]
    loader = facts["loader"].get("unit", "")
    if facts["blacklists"] and not loader:
        todo = "remove the line there and run `update-initramfs -u`"
        seen = f"amdgpu is blacklisted in {', '.join(facts['blacklists'])}"
        yield error("driver", seen, "a driver that may load", todo)
    elif module["loaded"] and requirements.driver_packages and module["path"] and DKMS not in module["path"]:
        seen = f"the distribution's own amdgpu: {module['path']}"
        packages = ", ".join(f"{name} {version}" for name, version in module["packages"].items())
        if packages:
            seen += f"; {packages} is installed, but not built for {facts['kernel']}"
            todo = "the first run builds it and reboots; where that fails, `dkms status` and its make.log say why"
            yield warning("driver", seen, f"AMD's, below /lib/modules/{facts['kernel']}{DKMS}", todo)
        else:
            yield ok("driver", f"{seen}; the first run installs AMD's and reboots")
    elif module["loaded"] and module["built_source"] and module["loaded_source"] != module["built_source"]:
        seen = "the loaded driver is not the one that DKMS built"
        yield warning("driver", seen, "the one that DKMS built", "reboot; the first run reboots otherwise")
    elif module["loaded"]:
        gfx942 = facts["topology"].count(GFX)
        if gfx942 < requirements.gpus and facts["loader"].get("at_work"):
            yield ok("driver", f"{loader} is loading it: a run waits for that")
        elif gfx942 < requirements.gpus:
            seen = f"{module['loaded']} is loaded, KFD has {gfx942} gfx942"
            todo = "`dmesg | grep amdgpu` there: which GPU failed, and why"
            yield error("driver", seen, f"{requirements.gpus} gfx942", todo)
        else:
            yield ok("driver", f"{module['loaded']}, {gfx942} gfx942{f', by {loader}' if loader else ''}")
    elif loader:
        yield ok("driver", f"none yet: {loader} loads it after each boot, a run waits for that")
    else:
        yield ok("driver", "none yet: the first run installs it" if requirements.driver else "none, and none wanted")
    yield from _driver_release(observation, requirements)
    if facts["backups"]:
        todo = "remove them: modprobe ignores them, but people take them for settings in force"
        yield warning("modprobe.d", f"left over: {', '.join(facts['backups'])}", "no copies of old files", todo)


def _driver_release(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check that the installed driver is of the stack's release, or that the run may replace it."""
    for name, version in observation.facts["driver"]["packages"].items():
        release, wanted = release_of(version), requirements.driver_release
        if not release or not wanted or release == wanted:
            continue
        seen = f"{name} {version}: release {release}"
        if requirements.adopts_driver:
            todo = f"set rocm_driver_release to {release} with its rocm_version, or rocm_driver_adopt to false"
            yield warning("driver release", f"{seen} stays", f"{wanted}, as in the stack", todo)
        elif version_numbers(release) > version_numbers(wanted):
            todo = f"set rocm_driver_release to {release} with its rocm_version; or keep it with rocm_driver_adopt; or purge {name}"
            yield error("driver release", seen, f"{wanted} or an earlier one", todo)
        else:
            yield ok("driver release", f"{seen}; the first run installs {wanted} and reboots")


def release_of(version: str) -> str:
    """Return AMD's driver release of a package version: 30.30.4 of 1:6.16.13.30300400-2341068; "" for another form."""
    match = re.search(r"\.(\d\d)(\d\d)(\d\d)\d\d-", version)
    return ".".join(str(int(part)) for part in match.groups()) if match else ""


def version_numbers(version: str) -> list[int]:
    """Return the numbers of a version, for a comparison."""
    return [int(part) for part in re.findall(r"\d+", version)]


def memory_and_disks(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Check the machine's memory, and that it has an NVMe disk."""
    facts = observation.facts
    need, size = MEMORY * requirements.gpus, f"{facts['memory'] / 1e9:.0f} GB"
    if facts["memory"] >= need:
        yield ok("memory", size)
    else:
        yield warning("memory", size, f"{need / 1e9:.0f} GB: vLLM reads the weights through it", "add memory")
    if facts["nvme"]:
        yield ok("NVMe", f"{len(facts['nvme'])} of them")
    else:
        yield warning("NVMe", "none", "a fast disk for the weights", "add one: weights load slowly from other disks")


def kernel_log(observation: Observation, requirements: Requirements) -> Iterator[CheckResult]:
    """Report alarming lines of the kernel's log. Two of them are known false alarms."""
    for line in observation.facts["notes"]:
        if "invalid ip discovery" in line:
            yield ok("kernel log", f"known false alarm if all GPUs are present (ROCm#3856, #4454): {line}")
        elif "CPER" in line:
            reason = "a stale record makes exporters say health=0 (device-metrics-exporter#506)"
            yield ok("kernel log", f"known false alarm, {reason}: {line}")
        else:
            yield warning("kernel log", line, "no such line", "`dmesg | grep amdgpu` there")


CHECKS: Sequence[Check] = (kernel, secure_boot, command_line, gpus, firmware, driver, memory_and_disks, kernel_log)
FOR_SERVING: Sequence[Check] = (secure_boot, gpus, firmware, driver, memory_and_disks, kernel_log)
