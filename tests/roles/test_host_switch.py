"""The dead man's switch of the role host: a controller that is killed while a node reboots leaves the node as it was before.

Real reboots of a lab node; tests/unit/test_roles_boot_revert.py has the power losses.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.provider import teardown
from tests.support import playbook
from tests.support.role_node import COMMON, Place

_numbers = itertools.count(1)
FILES = "/etc/systemd/system/fleet-boot-revert.* /etc/systemd/system/*/fleet-boot-revert.* /var/lib/fleet/boot-revert"
Until = Callable[..., None]


@pytest.fixture
def argument(ready: Place) -> Iterator[str]:
    """A kernel argument that the node never had; at the end it is taken out again, which needs no reboot and leaves no switch."""
    yield f"fleet.switch={next(_numbers)}"
    run = ready.run("role-host")
    assert run.rc == 0 and "Reboot the host" not in run.changed and left(ready) == [], run.message


def with_it(argument: str) -> dict[str, Any]:
    return {"host_kernel_arguments": [*COMMON["host_kernel_arguments"], argument]}


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


def went_back(place: Place, argument: str) -> bool:
    """Return whether the node answers, and runs without the argument."""
    now = arguments(place)
    return bool(now) and argument not in now


def kill(run: playbook.RunningPlaybook) -> None:
    """Kill a run with all its processes, its SSH connection too, as if the controller lost its power."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            about = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if run.folder.name.encode() in about and int(folder.name) != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(folder.name), signal.SIGKILL)
    run.process.communicate()
    run.folder.cleanup()


def change_and_die(place: Place, until: Until, argument: str, timeout: int) -> None:
    """Add a kernel argument, kill the run when the node goes down for its reboot, and wait for the boot with that argument."""
    before = place.sh("cat /proc/sys/kernel/random/boot_id")
    run = playbook.RunningPlaybook(
        place.node, "role-host", {**place.vars, **with_it(argument), "host_confirm_timeout": timeout}
    )
    until(lambda: answer(place, "cat /proc/sys/kernel/random/boot_id") != before, 120)
    assert run.process.poll() is None, run.end().message
    kill(run)
    until(lambda: argument in arguments(place))


def test_a_node_whose_controller_was_killed_goes_back_and_the_next_run_says_so_once(
    ready: Place, until: Until, argument: str
) -> None:
    file = ready.sh("cat /etc/default/grub.d/90-fleet.cfg")
    change_and_die(ready, until, argument, 15)
    assert len(left(ready)) == 4
    until(lambda: "when" in answer(ready, "cat /var/lib/fleet/boot-reverted.json"), 120)
    until(lambda: went_back(ready, argument), 120)
    record = json.loads(ready.sh("cat /var/lib/fleet/boot-reverted.json"))
    assert argument in record["words"] and record["timeout"] == 15
    assert ready.sh("cat /etc/default/grub.d/90-fleet.cfg") == file and left(ready) == []

    stopped = ready.run("role-host", **with_it(argument))
    assert stopped.changed == [] and stopped.message.startswith(
        f"the host went back to its earlier kernel arguments by itself at {record['when']}:\n"
        f"no run had confirmed {' '.join(record['words'])} within 15 s after its boot"
    )
    again = ready.run("role-host", **with_it(argument))
    assert again.rc == 0 and "Reboot the host" in again.changed, again.message
    assert argument in arguments(ready) and left(ready) == []
    assert ready.sh("ls /var/lib/fleet").split().count("boot-reverted.json") == 0


@pytest.mark.exhaustive
def test_a_run_that_comes_back_in_time_confirms_what_a_killed_one_began(
    ready: Place, until: Until, argument: str
) -> None:
    change_and_die(ready, until, argument, 600)
    assert ready.sh("systemctl is-active fleet-boot-revert.timer").strip() == "active"
    run = ready.run("role-host", **with_it(argument))
    assert (run.rc, run.changed) == (0, []), run.message
    assert argument in arguments(ready) and left(ready) == []


@pytest.mark.exhaustive
def test_a_teardown_before_the_confirmation_leaves_no_switch(ready: Place, until: Until, argument: str) -> None:
    change_and_die(ready, until, argument, 600)
    managed = {"units": [teardown.SWITCH_UNIT], "trees": teardown.SWITCH_FILES}
    run = ready.run("teardown", managed=managed)
    assert run.rc == 0 and left(ready) == [], run.message
    assert "fleet-boot-revert" not in ready.sh("systemctl list-timers --all; systemctl list-units --all")


@pytest.mark.exhaustive
def test_a_node_that_its_arguments_cut_off_goes_back_while_the_run_waits(ready: Place, argument: str) -> None:
    # In a container ConditionKernelCommandLine does not read /proc/cmdline.
    for unit, section in {"ssh.service": "Service", "ssh.socket": "Socket"}.items():
        drop_in = f"[{section}]\nExecStartPre=/bin/sh -c '! grep -q {argument} /proc/cmdline'\n"
        ready.sh(f"mkdir -p /etc/systemd/system/{unit}.d; cat >/etc/systemd/system/{unit}.d/hand.conf", stdin=drop_in)
    ready.sh("systemctl daemon-reload")
    run = ready.run("role-host", host_confirm_timeout=15, **with_it(argument))
    ready.sh("rm -r /etc/systemd/system/ssh.*.d; systemctl daemon-reload")
    assert run.message.startswith("the host went back to its earlier kernel arguments by itself at "), run.message
    assert went_back(ready, argument) and left(ready) == []


@pytest.mark.exhaustive
def test_a_node_that_boots_into_emergency_mode_goes_back_too(ready: Place, until: Until, argument: str) -> None:
    change_and_die(ready, until, argument, 20)
    answer(ready, "systemctl --no-block isolate emergency.target")
    until(lambda: arguments(ready) == [], 15)
    until(lambda: went_back(ready, argument), 120)
    assert left(ready) == []
