"""What a preflight checks of hardware, kernel and driver: pure functions to verdicts, each with what to do.

Numbers are those of AMD's own bring-up notes (project notes on the host). Used by __init__. Add a check: a function here, a
machine that fails it in tests/unit/test_preflight_checks.py.
"""

from collections.abc import Iterator, Sequence

from fleet.machine.preflight.form import Check, Level, Look, Verdict, Wanted

MI300X = {"0x74a1": "MI300X", "0x74b5": "MI300X (virtual function)"}
GFX = 90402  # gfx942
SPEED, WIDTH = "32.0 GT/s PCIe", "16"
MEMORY = 192e9  # bytes of RAM a GPU: what AMD's platforms have is 1.5 TB and more for eight


def kernel(look: Look, wanted: Wanted) -> Iterator[Verdict]:
    """The kernel is one that the driver is tested with; its headers can be had; Secure Boot lets the driver in."""
    facts = look.facts
    release, listed = facts["kernel"], wanted.kernels.get(facts["system"], ())
    if listed and not release.startswith(listed):
        yield Verdict(
            "kernel", "warning", release, f"{' or '.join(listed)}, as AMD tests it", "install and boot such a kernel"
        )
    else:
        yield Verdict("kernel", "ok", release)
    if not wanted.driver:
        return
    headers = f"linux-headers-{release}"
    if facts["headers"].get(headers) == "not there":
        todo = f"`apt-get update`; a kernel pinned by the cloud may need its own source; or boot a kernel that has {headers}"
        yield Verdict(
            "headers", "fault", f"no package {headers}", "headers of the running kernel, for the driver's build", todo
        )
    else:
        yield Verdict("headers", "ok", f"{headers} {facts['headers'].get(headers)}")
    if facts["secure_boot"] and not facts["driver"]["signed"]:
        todo = "turn Secure Boot off in the firmware, or enrol a key (mokutil) and sign with it"
        yield Verdict(
            "secure boot",
            "fault",
            "on: the kernel refuses a driver that is built here",
            "off, or a signed driver",
            todo,
        )
    else:
        yield Verdict(
            "secure boot",
            "ok",
            "off" if facts["secure_boot"] is False else "signed" if facts["secure_boot"] else "no EFI",
        )


def command_line(look: Look, wanted: Wanted) -> Iterator[Verdict]:
    """Kernel arguments: what is missing costs the first run one reboot."""
    missing = [word for word in wanted.arguments if word not in look.facts["cmdline"]]
    if missing:
        yield Verdict("command line", "ok", f"lacks {' '.join(missing)}: the first run sets it and reboots once")
    else:
        yield Verdict("command line", "ok", "has what is wanted" if wanted.arguments else "nothing wanted")


def gpus(look: Look, wanted: Wanted) -> Iterator[Verdict]:
    """GPUs on the bus, of the right kind, at full link."""
    found = [gpu for gpu in look.facts["gpus"] if gpu["device"] in MI300X]
    strange = [f"{gpu['address']} {gpu['device']}" for gpu in look.facts["gpus"] if gpu["device"] not in MI300X]
    if len(found) < wanted.gpus:
        seen = f"{len(found)} MI300X on the PCI bus{f', and {chr(44).join(strange)}' if strange else ''}"
        todo = "look at the BMC: is every GPU powered and seated? a virtual machine needs them passed through; or set `gpus`"
        yield Verdict("GPUs", "fault", seen, f"{wanted.gpus} (0x74a1, or 0x74b5 in a virtual machine)", todo)
    else:
        yield Verdict("GPUs", "ok", f"{len(found)} {MI300X[found[0]['device']] if found else 'wanted'}")
    slow = [
        f"{gpu['address']} {gpu['speed']} x{gpu['width']}"
        for gpu in found
        if gpu["speed"] and (gpu["speed"], gpu["width"]) != (SPEED, WIDTH)
    ]
    if slow:
        todo = "reseat the GPU or its riser; look at the BIOS setting of the link speed; `lspci -vv` has LnkSta"
        yield Verdict("links", "warning", ", ".join(slow), f"{SPEED} x{WIDTH}", todo)
    elif found:
        yield Verdict("links", "ok", f"{SPEED} x{WIDTH}" if found[0]["speed"] else "not told by the bus")
    odd = [gpu for gpu in found if gpu["compute"] and (gpu["compute"], gpu["memory"]) != ("SPX", "NPS1")]
    if odd:
        seen = ", ".join(f"{gpu['address']} {gpu['compute']}/{gpu['memory']}" for gpu in odd)
        yield Verdict(
            "partitions", "warning", seen, "SPX/NPS1", "`amd-smi set --compute-partition SPX`, memory partition NPS1"
        )


def firmware(look: Look, wanted: Wanted) -> Iterator[Verdict]:
    """The GPUs' firmware: the same on all of them, and known to work with the release of ROCm."""
    told = [gpu["vbios"] for gpu in look.facts["gpus"] if gpu["vbios"]], look.facts["bundles"]
    mixed = [", ".join(sorted(set(some))) for some in told if len(set(some)) > 1]
    found = look.facts["bundles"][:1]
    unknown = [one for one in found if wanted.firmware and one not in wanted.firmware and one < wanted.firmware[-1]]
    todo = "update the GPUs' firmware through the BMC, all to one bundle; docs/rules.md has the table"
    if mixed:
        yield Verdict("firmware", "warning", f"GPUs differ: {'; '.join(mixed)}", "the same on all", todo)
    elif unknown:
        yield Verdict("firmware", "warning", f"bundle {unknown[0]}", f"{' or '.join(wanted.firmware)}, or later", todo)
    elif found:
        yield Verdict("firmware", "ok", f"bundle {found[0]}")
    else:
        yield Verdict("firmware", "ok", "not told: amd-smi has it once the driver runs")


def driver(look: Look, wanted: Wanted) -> Iterator[Verdict]:
    """The driver: nothing keeps it from loading; what is loaded is what was built; every GPU is in its topology."""
    facts, found = look.facts, look.facts["driver"]
    if facts["blacklists"]:
        todo = "take the line out there and run `update-initramfs -u`"
        yield Verdict(
            "driver",
            "fault",
            f"amdgpu is blacklisted in {', '.join(facts['blacklists'])}",
            "a driver that may load",
            todo,
        )
    elif found["loaded"] and found["built_source"] and found["loaded_source"] != found["built_source"]:
        yield Verdict(
            "driver", "warning", "another one is built than is loaded", "the built one", "reboot; the first run does"
        )
    elif found["loaded"]:
        own = [version for version in facts["topology"] if version == GFX]
        if len(own) < wanted.gpus:
            seen = f"{found['loaded']} is loaded, KFD has {len(own)} gfx942"
            yield Verdict(
                "driver", "fault", seen, f"{wanted.gpus}", "`dmesg | grep amdgpu` says which GPU it refused, and why"
            )
        else:
            yield Verdict("driver", "ok", f"{found['loaded']}, {len(own)} gfx942")
    else:
        yield Verdict(
            "driver", "ok", "none yet: the first run installs it" if wanted.driver else "none, and none wanted"
        )
    if facts["backups"]:
        todo = "remove them: modprobe reads every *.conf, people read the rest"
        yield Verdict(
            "modprobe.d", "warning", f"left over: {', '.join(facts['backups'])}", "no copies of old files", todo
        )


def hardware(look: Look, wanted: Wanted) -> Iterator[Verdict]:
    """Memory and disks."""
    facts = look.facts
    need = MEMORY * wanted.gpus
    level: Level = "ok" if facts["memory"] >= need else "warning"
    told = f"{facts['memory'] / 1e9:.0f} GB"
    yield Verdict(
        "memory",
        level,
        told,
        "" if level == "ok" else f"{need / 1e9:.0f} GB: weights are read through it",
        "" if level == "ok" else "add memory",
    )
    if facts["nvme"]:
        yield Verdict("NVMe", "ok", f"{len(facts['nvme'])} of them")
    else:
        yield Verdict(
            "NVMe", "warning", "none", "a fast disk for the weights", "weights load slowly from anything else"
        )


def kernel_log(look: Look, wanted: Wanted) -> Iterator[Verdict]:
    """Lines that alarm people. Two of them are known false alarms, and are named as such."""
    for line in look.facts["notes"]:
        if "invalid ip discovery" in line:
            yield Verdict("kernel log", "ok", f"known false alarm where the GPUs are there (ROCm#3856, #4454): {line}")
        elif "CPER" in line:
            yield Verdict(
                "kernel log",
                "ok",
                f"known false alarm, a stale record makes exporters say health=0 (device-metrics-exporter#506): {line}",
            )
        else:
            yield Verdict("kernel log", "warning", line, "no such line", "`dmesg | grep amdgpu` there")


CHECKS: Sequence[Check] = (kernel, command_line, gpus, firmware, driver, hardware, kernel_log)
