"""The preflight's report on machines that a vendor set up: other Docker packages, drivers, sources, pins, kernels, signatures.

Each claim changes a few facts of a healthy machine (test_preflight_checks). Whole vendor machines are in tests/vendors.
"""

from typing import Any

import pytest

from fleet import preflight
from fleet.preflight import hardware
from tests.support.preflight_machines import after_a_run, healthy, not_ok, prod_requirements

IN_TREE = "/lib/modules/6.8.0-87-generic/kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko.zst"
BUILT = "/lib/modules/6.8.0-87-generic/updates/dkms/amdgpu.ko.zst"


def report(facts: dict[str, Any], check: str) -> list[tuple[str, str]]:
    """Return level and words of one check, fine or not."""
    results = preflight.check(preflight.Observation(facts, 0.2), prod_requirements())
    return [(result.level, result.seen) for result in results if result.check == check]


def test_a_gpu_that_is_a_virtual_function_counts() -> None:
    facts = healthy()
    for gpu in facts["gpus"]:
        gpu["device"] = "0x74b5"
    assert report(facts, "GPUs") == [("ok", "8 MI300X (virtual function)")]


@pytest.mark.parametrize("version", [90010, 90400, 90403, 110000])
def test_a_gpu_of_another_kind_in_the_topology_does_not_count(version: int) -> None:
    facts = after_a_run()
    facts["topology"][3] = version
    assert report(facts, "driver") == [("error", "6.16.13 is loaded, KFD has 7 gfx942")]


def test_the_first_run_replaces_a_driver_of_the_distribution() -> None:
    facts = healthy()
    facts["driver"] |= {"loaded": "without a version", "path": IN_TREE}
    assert report(facts, "driver") == [
        ("ok", f"the distribution's own amdgpu: {IN_TREE}; the first run installs AMD's and reboots")
    ]


def test_a_driver_that_dkms_did_not_build_for_this_kernel_is_a_warning() -> None:
    facts = after_a_run()
    facts["driver"]["path"] = IN_TREE
    (result,) = not_ok(facts)
    assert (result.level, result.check) == ("warning", "driver")
    assert result.seen.endswith(
        "amdgpu-dkms 1:6.16.13.30300300-2327507.24.04 is installed, but not built for 6.8.0-87-generic"
    )
    assert result.wanted == "AMD's, below /lib/modules/6.8.0-87-generic/updates/dkms/"


@pytest.mark.parametrize(
    ("version", "adopts", "expected"),
    [
        ("1:6.16.13.30300300-2327507", False, []),
        ("1:6.16.6.30300000-2255209", False, [("ok", "release 30.30.0; the first run installs 30.30.3 and reboots")]),
        ("1:6.16.6.30300000-2255209", True, [("warning", "release 30.30.0 stays")]),
        ("1:6.19.14.31400000-2364437", False, [("error", "release 31.40.0")]),
        ("1:6.19.14.31400000-2364437", True, [("warning", "release 31.40.0 stays")]),
        ("6.16.13-of-somebody", False, []),
    ],
)
def test_a_driver_of_another_release_is_reported(version: str, adopts: bool, expected: list[tuple[str, str]]) -> None:
    facts = after_a_run()
    facts["driver"]["packages"] = {"amdgpu-dkms": version}
    requirements = preflight.Requirements(
        prod_requirements().target, "", driver_release="30.30.3", driver_packages=("amdgpu-dkms",), adopts_driver=adopts
    )
    results = list(hardware.driver(preflight.Observation(facts, 0), requirements))[1:]
    assert [(result.level, result.seen) for result in results] == [
        (level, f"amdgpu-dkms {version}: {seen}") for level, seen in expected
    ]


def test_a_blacklist_is_no_error_where_azures_unit_loads_the_driver() -> None:
    facts = healthy()
    facts["blacklists"] = ["/etc/modprobe.d/blacklist.conf"]
    assert [level for level, _ in report(facts, "driver")] == ["error"]
    facts["loader"] = {"unit": "rocmstartup.service", "at_work": True}
    assert report(facts, "driver") == [
        ("ok", "none yet: rocmstartup.service loads it after each boot, a run waits for that")
    ]
    facts["driver"] |= {"loaded": "6.16.13", "path": BUILT}
    assert report(facts, "driver") == [("ok", "rocmstartup.service is loading it: a run waits for that")]
    facts["loader"]["at_work"] = False
    assert report(facts, "driver") == [("error", "6.16.13 is loaded, KFD has 0 gfx942")]


SIGNED = {"path": BUILT, "signer": "gpu-1 Secure Boot Module Signature key", "signature": "0A1B2C"}


@pytest.mark.parametrize(
    ("driver", "enrolled", "level"),
    [
        ({}, {}, "error"),
        ({**SIGNED, "path": IN_TREE}, {"serials": ["0A1B2C"], "names": [SIGNED["signer"]]}, "error"),
        (SIGNED, {"serials": ["FFFF"], "names": ["Canonical"]}, "error"),
        (SIGNED, {"serials": ["0A1B2C"]}, "ok"),
        (SIGNED, {"names": [SIGNED["signer"]]}, "ok"),
        ({}, {"dkms": True}, "ok"),
        ({"path": BUILT}, {"names": [""], "serials": [""]}, "error"),
        ({"path": BUILT}, {"dkms": True}, "error"),
    ],
)
def test_a_signature_counts_for_a_module_of_dkms_whose_key_is_enrolled(
    driver: dict[str, str], enrolled: dict[str, Any], level: str
) -> None:
    facts = healthy()
    facts["secure_boot"] = True
    facts["driver"] |= driver
    facts["enrolled"] |= enrolled
    assert [level for level, _ in report(facts, "secure boot")] == [level]


@pytest.mark.parametrize(
    ("package", "version", "ours", "expected"),
    [
        ("docker.io", "28.2.2", False, ("ok", "28.2.2")),
        ("docker-ce", "29.1.0", False, ("ok", "29.1.0 of docker-ce: adopted; a teardown keeps it")),
        ("moby-engine", "20.10.24", False, ("ok", "20.10.24 of moby-engine: adopted; a teardown keeps it")),
        ("docker-ce", "19.03.15", False, ("error", "19.03.15 of docker-ce")),
        ("docker-ce", "29.1.0", True, ("ok", "29.1.0")),
    ],
)
def test_docker_of_other_packages_is_adopted_where_it_is_new_enough(
    package: str, version: str, ours: bool, expected: tuple[str, str]
) -> None:
    facts = healthy()
    facts["docker"] |= {"there": True, "version": version, "package": package, "ours": ours}
    assert report(facts, "Docker") == [expected]


AMD = "https://repo.radeon.com"


@pytest.mark.parametrize(
    ("url", "key", "same", "level"),
    [
        (f"{AMD}/amdgpu/30.30.3/ubuntu", "/etc/apt/keyrings/rocm.gpg", True, "ok"),
        (f"{AMD}/amdgpu/30.30.3/ubuntu", "", True, "error"),
        (f"{AMD}/amdgpu/30.30/ubuntu", "/etc/apt/keyrings/rocm.gpg", False, "error"),
    ],
)
def test_another_source_of_amds_packages_is_used_or_refused(url: str, key: str, same: bool, level: str) -> None:
    facts = healthy()
    facts["repositories"] = [{"file": "/etc/apt/sources.list.d/rocm.list", "url": url, "key": key, "same": same}]
    ((seen_level, seen),) = report(facts, "sources")
    assert seen_level == level
    assert "/etc/apt/sources.list.d/rocm.list" in seen


@pytest.mark.parametrize(
    ("states", "level", "seen"),
    [
        (["pinned", "installable"], "ok", "pinned, forbidden by apt preferences; the first run installs them anyway"),
        (["installed", "pinned"], "ok", "installed, forbidden by apt preferences; the first run installs them anyway"),
        (["installed", "installable"], "ok", "installed"),
        (["installed", "not there"], "warning", "after a kernel upgrade the driver is not built, and not loaded"),
        (["not there", "installed"], "error", "no package linux-headers-6.8.0-87-generic"),
    ],
)
def test_this_kernel_and_each_later_one_need_headers(states: list[str], level: str, seen: str) -> None:
    facts = healthy()
    names = ("linux-headers-6.8.0-87-generic", "linux-headers-generic")
    facts["headers"] = {**dict(zip(names, states, strict=True)), "linux-modules-extra-6.8.0-87-generic": "not there"}
    ((seen_level, words),) = report(facts, "headers")
    assert seen_level == level
    assert words.endswith(seen)


@pytest.mark.parametrize(
    ("system", "kernel", "check", "advice"),
    [
        ("ubuntu 26.04", "7.0.0-4-generic", "system", "or set driver 31.40.0 with ROCm 7.14 "),
        (
            "ubuntu 24.04",
            "6.14.0-29-generic",
            "kernel",
            "or set driver 30.10.2 with ROCm 7.0.2 or driver 30.20.1 with ROCm 7.1.1 ",
        ),
        ("debian 13", "6.19.2+deb13-amd64", "kernel", "or set driver 31.40.0 with ROCm 7.14 "),
        ("debian 12", "6.12.43+deb12-amd64", "kernel", "or set driver 31.40.0 with ROCm 7.14 "),
    ],
)
def test_a_kernel_outside_the_releases_list_is_a_fault_that_names_the_release_which_has_support(
    system: str, kernel: str, check: str, advice: str
) -> None:
    facts = healthy()
    facts |= {"system": system, "kernel": kernel, "headers": {f"linux-headers-{kernel}": "installed"}}
    (result,) = not_ok(facts)
    assert (result.level, result.check) == ("error", check)
    assert advice in result.next


def test_a_kernel_that_amd_does_not_list_is_a_warning_where_no_driver_is_wanted() -> None:
    facts = healthy()
    facts["kernel"] = "6.14.0-29-generic"
    requirements = preflight.Requirements(
        prod_requirements().target, "", driver=False, kernels=prod_requirements().kernels
    )
    assert [result.level for result in hardware.kernel(preflight.Observation(facts, 0), requirements)] == ["warning"]


def test_images_need_room_where_docker_keeps_them() -> None:
    """Before Docker is installed, its data may go to one of two disks: both must have room."""
    facts = healthy()
    small = {"free": 50_000_000_000, "device": 2}
    facts["images"]["/var/lib/containerd"] = small
    (result,) = not_ok(facts)
    assert (result.check, result.level, result.seen) == ("space", "error", "50 GB free at /var/lib/containerd")
    facts["images"] = {"/mnt/docker": small}
    assert [result.seen for result in not_ok(facts)] == ["50 GB free at /mnt/docker"]
    facts["space"]["/var/lib/docker"] = {"free": 0, "device": 3, "filled": False}
    facts["images"] = {"/mnt/docker": {"free": 80_000_000_000, "device": 2}}
    assert not_ok(facts) == []


def test_a_first_boot_that_still_runs_is_a_warning() -> None:
    facts = healthy()
    facts["first_boot"] = True
    assert [(result.level, result.check) for result in not_ok(facts)] == [("warning", "apt")]
