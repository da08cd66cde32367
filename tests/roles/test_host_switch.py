"""The dead man's switch of the role host: a controller that is killed while a node reboots leaves the node as it was before.

Real reboots of a lab node; tests/unit/test_roles_boot_revert.py has the power losses.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import playbook
from tests.support.role_node import COMMON, Place

ARGUMENT = "fleet.switch=1"
WITH_IT = {"host_kernel_arguments": [*COMMON["host_kernel_arguments"], ARGUMENT]}
FILES = "/etc/systemd/system/fleet-boot-revert.* /etc/systemd/system/*/fleet-boot-revert.* /var/lib/fleet/boot-revert"
NO_SSHD = f"[Unit]\nConditionKernelCommandLine=!{ARGUMENT}\n"
Until = Callable[..., None]


def answer(place: Place, command: str) -> str:
    """Return what a command prints on the node, "" while the node does not answer."""
    try:
        words = [place.ssh[0], "-oConnectTimeout=3", *place.ssh[1:], command]
        return subprocess.run(words, capture_output=True, text=True, timeout=8).stdout
    except subprocess.TimeoutExpired:
        return ""


def arguments(place: Place) -> list[str]:
    return answer(place, "cat /proc/cmdline").split()


def left(place: Place) -> list[str]:
    """Return what an armed switch has on the node."""
    return place.sh(f"ls -d {FILES} 2>/dev/null || true").split()


def kill(run: playbook.RunningPlaybook) -> None:
    """Kill a run with all its processes, its SSH connection too, as if the controller lost its power."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            about = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if run.folder.name.encode() in about and int(folder.name) != os.getpid():
            os.kill(int(folder.name), signal.SIGKILL)
    run.process.communicate()
    run.folder.cleanup()


def change_and_die(place: Place, until: Until, **variables: Any) -> None:
    """Add a kernel argument, and kill the run when the node goes down for its reboot."""
    before = place.sh("cat /proc/sys/kernel/random/boot_id")
    run = playbook.RunningPlaybook(place.node, "role-host", {**place.vars, **WITH_IT, **variables})
    until(lambda: answer(place, "cat /proc/sys/kernel/random/boot_id") != before, 120)
    assert run.process.poll() is None, run.end().message
    kill(run)


def test_a_node_whose_controller_was_killed_goes_back_and_the_next_run_says_so_once(ready: Place, until: Until) -> None:
    earlier, file = arguments(ready), ready.sh("cat /etc/default/grub.d/90-fleet.cfg")
    change_and_die(ready, until, host_confirm_timeout=15)
    until(lambda: ARGUMENT in arguments(ready))
    assert len(left(ready)) == 4
    until(lambda: "when" in answer(ready, "cat /var/lib/fleet/boot-reverted.json"), 120)
    until(lambda: arguments(ready) == earlier, 120)
    record = json.loads(ready.sh("cat /var/lib/fleet/boot-reverted.json"))
    assert ARGUMENT in record["words"] and record["timeout"] == 15
    assert ready.sh("cat /etc/default/grub.d/90-fleet.cfg") == file and left(ready) == []

    stopped = ready.run("role-host", **WITH_IT)
    assert stopped.changed == [] and stopped.message.startswith(
        f"the host went back to its earlier kernel arguments by itself at {record['when']}:\n"
        f"no run had confirmed {' '.join(record['words'])} within 15 s after its boot"
    )
    again = ready.run("role-host", **WITH_IT)
    assert again.rc == 0 and "Reboot the host" in again.changed, again.message
    assert ARGUMENT in arguments(ready) and left(ready) == []
    assert ready.sh("ls /var/lib/fleet").split().count("boot-reverted.json") == 0


def test_an_argument_that_is_taken_out_without_a_reboot_leaves_no_switch(ready: Place) -> None:
    ready.run("role-host", **WITH_IT)
    run = ready.run("role-host")
    assert "Write the kernel arguments" in run.changed and "Reboot the host" not in run.changed
    assert ("host : Confirm the boot configuration", False) in run.tasks and left(ready) == []


@pytest.mark.exhaustive
def test_a_run_that_comes_back_in_time_confirms_what_a_killed_one_began(ready: Place, until: Until) -> None:
    change_and_die(ready, until, host_confirm_timeout=600)
    until(lambda: ARGUMENT in arguments(ready))
    assert ready.sh("systemctl is-active fleet-boot-revert.timer").strip() == "active"
    run = ready.run("role-host", **WITH_IT)
    assert (run.rc, run.changed) == (0, []), run.message
    assert ARGUMENT in arguments(ready) and left(ready) == []


@pytest.mark.exhaustive
def test_a_node_that_its_arguments_cut_off_goes_back_while_the_run_waits(ready: Place) -> None:
    earlier = arguments(ready)
    for unit in ("ssh.service", "ssh.socket"):
        ready.sh(f"mkdir -p /etc/systemd/system/{unit}.d; cat >/etc/systemd/system/{unit}.d/hand.conf", stdin=NO_SSHD)
    ready.sh("systemctl daemon-reload")
    run = ready.run("role-host", host_confirm_timeout=15, **WITH_IT)
    ready.sh("rm -r /etc/systemd/system/ssh.*.d; systemctl daemon-reload")
    assert run.message.startswith("the host went back to its earlier kernel arguments by itself at "), run.message
    assert arguments(ready) == earlier and left(ready) == []


@pytest.mark.exhaustive
def test_a_node_that_boots_into_emergency_mode_goes_back_too(ready: Place, until: Until) -> None:
    earlier = arguments(ready)
    change_and_die(ready, until, host_confirm_timeout=20)
    until(lambda: ARGUMENT in arguments(ready))
    answer(ready, "systemctl --no-block isolate emergency.target")
    until(lambda: arguments(ready) == [], 30)
    until(lambda: arguments(ready) == earlier, 120)
    assert left(ready) == []
