"""Claims about the roles host, docker and rocm (playbooks/host.yml) on a bare Ubuntu 24.04 and, in `make test-all`, a bare Debian 12 node."""

import json

import pytest

from tests.support.role_node import Place, Runs

# Only check mode reports it, where a module cannot know yet: packages of lists that apt has not fetched.
CHECK_ONLY = {"Report packages that would be installed"}
# Only a real run has it, as a consequence of another change: rendering after the drop-in.
RUN_ONLY = {"Update the GRUB configuration"}


def test_check_mode_on_a_bare_host_reports_changes_and_makes_none(hosted: Runs) -> None:
    assert hosted.check.rc == 0, hosted.check.message
    assert len(hosted.check.changed) >= 8
    assert hosted.left_by_check == []


def test_the_first_run_makes_the_changes_of_check_mode(hosted: Runs) -> None:
    assert hosted.first.rc == 0, hosted.first.message
    apt = {name for name in hosted.first.changed if "packages" in name or name == "Install the driver and tools"}
    # Before the first update of its lists apt knows no package, and check mode only names them.
    assert set(hosted.check.changed) - CHECK_ONLY - apt == set(hosted.first.changed) - apt - RUN_ONLY


def test_kernel_arguments_and_driver_cost_one_reboot_together(hosted: Runs) -> None:
    assert hosted.first.changed.count("Reboot the host") == 1


@pytest.mark.parametrize("name", ["second", "last_check"])
def test_a_second_run_changes_nothing_and_check_mode_reports_no_change(hosted: Runs, name: str) -> None:
    run = getattr(hosted, name)
    assert (run.rc, run.changed) == (0, [])


def test_a_run_reports_gpus_driver_and_the_start_of_the_docker_daemon(hosted: Runs, place: Place) -> None:
    results = hosted.second.results["fleet_host"]
    assert results["gpus"] == 8 and results["driver"]
    assert results["engine"] == place.sh("systemctl show --value --property=InvocationID docker.service").strip()


def test_the_running_kernel_has_its_arguments_and_one_joined_pci(hosted: Runs, place: Place) -> None:
    words = place.host.file("/proc/cmdline").content_string.split()
    assert "iommu=pt" in words
    assert [word for word in words if word.startswith("pci=")] == ["pci=realloc=off,bfsort"]


def test_sysctls_and_limits_hold(hosted: Runs, place: Place) -> None:
    assert place.host.sysctl("vm.max_map_count") == 1048576
    limits = place.host.file("/etc/security/limits.d/90-fleet.conf")
    assert (limits.mode, limits.user) == (0o644, "root") and "* hard memlock unlimited" in limits.content_string


def test_the_docker_daemon_runs_and_starts_with_the_host(hosted: Runs, place: Place) -> None:
    docker = place.host.service("docker")
    assert docker.is_running and docker.is_enabled


def test_daemon_json_keeps_the_options_of_others(hosted: Runs, place: Place) -> None:
    options = json.loads(place.host.file("/etc/docker/daemon.json").content_string)
    assert options["log-driver"] == "local"
    assert options["default-runtime"] in options["runtimes"], "the platform's own runtime is gone"


def test_the_docker_daemon_s_folder_has_the_registry_certificates(hosted: Runs, place: Place) -> None:
    for registry, certificate in place.vars["docker_registry_certificates"].items():
        file = place.host.file(f"/etc/docker/certs.d/{registry}/ca.crt")
        assert file.mode == 0o644 and file.content_string.strip() == certificate.strip()


def test_the_repository_trusts_its_own_key_alone_and_has_priority(hosted: Runs, place: Place) -> None:
    sources = place.host.file("/etc/apt/sources.list.d/rocm.sources").content_string
    assert "Signed-By: /etc/apt/keyrings/rocm.asc" in sources
    assert place.host.file("/etc/apt/keyrings/rocm.asc").mode == 0o644
    assert " 600 " in place.sh("apt-cache policy amdgpu-dkms")


def test_driver_and_tools_are_installed(hosted: Runs, place: Place) -> None:
    assert place.host.package("amdgpu-dkms").is_installed
    assert all(place.host.package(name).is_installed for name in place.vars.get("rocm_packages", ["amd-smi-lib"]))


def test_all_gpus_are_back_after_the_reboot(hosted: Runs, place: Place) -> None:
    assert place.host.file("/dev/kfd").exists
    assert len(place.sh("ls -d /dev/dri/renderD*").split()) == 8


def test_a_successful_reboot_leaves_no_marker(hosted: Runs, place: Place) -> None:
    assert not place.host.file("/var/lib/fleet/reboot-attempted").exists


def test_the_run_that_reboots_arms_the_dead_man_s_switch_and_confirms(hosted: Runs, place: Place) -> None:
    names = [name for name, _ in hosted.first.tasks]
    order = [
        "Arm the dead man's switch",
        "Write the kernel arguments",
        "Reboot the host",
        "Confirm the boot configuration",
    ]
    places = [names.index(f"host : {name}") for name in order]
    assert places == sorted(places)
    assert place.sh("systemctl list-unit-files 'fleet-boot-revert*' --no-legend; ls -A /var/lib/fleet").split() == [
        "before.json"
    ]
    assert "host : Arm the dead man's switch" not in [name for name, _ in hosted.second.tasks]


@pytest.mark.exhaustive  # `make test` changes such files in test_e2e_drift.py
def test_check_mode_reports_a_drifted_file_and_a_run_repairs_it(ready: Place) -> None:
    ready.sh("echo '# by hand' >> /etc/security/limits.d/90-fleet.conf")
    check = ready.run("host", check=True)
    assert check.changed == ["Write login session limits"] and "# by hand" in check.raw
    assert ready.run("host").changed == ["Write login session limits"]


def test_check_mode_reports_a_reboot_for_a_driver_that_is_built_but_not_loaded(ready: Place) -> None:
    built = ready.sh("ls /lib/modules/$(uname -r)/updates/dkms/amdgpu.ko").strip()
    ready.sh(f"cp {built} /root/amdgpu.ko && printf 'version=99.0\\nsrcversion=ABC\\n' > {built}")
    check = ready.run("rocm", check=True)
    ready.sh(f"mv /root/amdgpu.ko {built}")
    assert check.changed == ["Reboot the host"]


def test_a_run_stops_instead_of_a_second_reboot_for_the_same_reason(ready: Place) -> None:
    version, source = ready.sh("cat /sys/module/amdgpu/version /sys/module/amdgpu/srcversion").split()
    reasons = f"driver built: {version} ABC, loaded: {version} {source}"
    built = ready.sh("ls /lib/modules/$(uname -r)/updates/dkms/amdgpu.ko").strip()
    ready.sh(f"cp {built} /root/amdgpu.ko && printf 'version={version}\\nsrcversion=ABC\\n' > {built}")
    ready.sh("mkdir -p /var/lib/fleet")
    ready.sh("cat > /var/lib/fleet/reboot-attempted", stdin=f"2026-01-01 00:00:00 UTC\n{reasons}")
    run = ready.run("rocm")
    ready.sh(f"mv /root/amdgpu.ko {built}; rm /var/lib/fleet/reboot-attempted")
    assert run.rc != 0 and run.changed == []
    assert run.message.startswith(
        f"{reasons}; a reboot for the same reason did not help at 2026-01-01 00:00:00 UTC\nwanted: "
    )


def test_too_few_gpus_stop_the_run_before_any_change(ready: Place) -> None:
    run = ready.run("rocm", rocm_gpus=9, rocm_suite="other")
    assert run.changed == []
    assert run.message.startswith("8 AMD GPUs on the PCI bus: ") and "\nwanted: 9 (rocm_gpus)\nnext: " in run.message


def test_another_key_stops_the_run_before_any_change(ready: Place) -> None:
    run = ready.run("rocm", rocm_key_fingerprint="0" * 40, rocm_suite="other")
    assert run.changed == []
    right = ready.vars["rocm_key_fingerprint"].replace(" ", "").upper()
    assert run.message.startswith(f"rocm_repository_key has the fingerprint {right}\nwanted: one key, {'0' * 40}\n")


def test_a_run_names_the_file_that_blacklists_the_driver(ready: Place) -> None:
    ready.sh("echo 'blacklist amdgpu' > /etc/modprobe.d/kept.conf")
    run = ready.run("rocm", check=True)
    ready.sh("rm /etc/modprobe.d/kept.conf")
    assert run.message.startswith("amdgpu is blacklisted by /etc/modprobe.d/kept.conf\nwanted: ")


def test_a_sysctl_that_the_kernel_does_not_have_stops_the_run_before_any_change(ready: Place) -> None:
    run = ready.run("host", host_sysctls={"vm.max_map_cuont": 1}, host_limits=[])
    assert run.changed == [] and "has no vm.max_map_cuont\nwanted: " in run.message


def test_a_reloadable_option_reloads_the_docker_daemon_and_any_other_restarts_it(ready: Place) -> None:
    before = ready.sh("systemctl show docker -p MainPID")
    run = ready.run("docker", docker_daemon_options={"log-driver": "local", "debug": True})
    assert "Reload Docker" in run.changed and ready.sh("systemctl show docker -p MainPID") == before
    run = ready.run("docker", docker_daemon_options={"log-driver": "json-file", "debug": False})
    assert "Restart Docker" in run.changed and ready.sh("systemctl show docker -p MainPID") != before
    assert ready.run("docker").rc == 0


def test_an_option_that_dockerd_refuses_fails_in_its_words_and_changes_nothing(ready: Place) -> None:
    before = ready.sh("systemctl show docker -p MainPID; cat /etc/docker/daemon.json")
    run = ready.run("docker", docker_daemon_options={"log-driver": "local", "debug": "perhaps"})
    assert run.message.startswith("dockerd rejects /etc/docker/daemon.json: ") and "debug of type bool" in run.message
    assert "\nwanted: docker_daemon_options that dockerd accepts" in run.message
    assert run.changed == [] and ready.sh("systemctl show docker -p MainPID; cat /etc/docker/daemon.json") == before


def test_the_message_about_an_unwritable_file_is_not_dockerd_s_refusal(ready: Place) -> None:
    ready.sh("mount --bind /etc/docker /etc/docker && mount -o remount,bind,ro /etc/docker")
    run = ready.run("docker", docker_daemon_options={"log-driver": "local", "debug": True})
    ready.sh("umount /etc/docker")
    assert run.message == "Destination /etc/docker not writable"


def test_a_run_starts_a_docker_daemon_that_systemd_refuses_after_too_many_starts(ready: Place) -> None:
    loop = "for n in 1 2 3 4; do systemctl start docker; systemctl stop docker; done || true"
    ready.sh(f"systemctl stop docker.socket docker; {loop}")
    assert ready.sh("systemctl is-failed docker || true").strip() == "failed"
    assert ready.run("docker").rc == 0 and ready.host.service("docker").is_running
