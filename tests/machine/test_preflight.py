"""The preflight on a real node: it sees what is there, finds what was put there to be found, and changes nothing."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import preflight, ssh
from fleet.managed import owner
from fleet.stack import requirements, role_vars, stack_file

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
OWNER = {"id": "organization/glm-fleet/staging", "since": "2026-10-01T12:00:00Z", "who": "ops@console"}
HOLD = "import fcntl, time\nf = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); open('/run/held', 'w'); time.sleep(600)"
# Five things that a preflight must find, as shell commands on the node: each with what takes it away again.
PUT = {
    "driver": ("echo 'blacklist amdgpu' >/etc/modprobe.d/no-gpu.conf", "rm /etc/modprobe.d/no-gpu.conf"),
    "ports": ("systemd-run -q --unit=web /usr/bin/python3 -m http.server 8000", "systemctl stop web"),
    "apt": (
        f'systemd-run -q --unit=other-apt /usr/bin/python3 -c "{HOLD}"',
        "systemctl stop other-apt; rm -f /run/held",
    ),
    "owner": (
        f"mkdir -p /var/lib/fleet && echo '{json.dumps(OWNER)}' >{owner.MARKER}",
        f"rm {owner.MARKER} && rmdir /var/lib/fleet",
    ),
    "reboot": (
        "touch /run/reboot-required && echo linux-image-amd64 >/run/reboot-required.pkgs",
        "rm /run/reboot-required*",
    ),
}
READY = "until ss -ltn | grep -q :8000 && [ -e /run/held ]; do sleep 0.1; done"


def wanted(node: ssh.Target) -> preflight.Requirements:
    """What a plan wants of the node: no driver, for its kernel is this machine's, which has no headers."""
    return preflight.Requirements(
        target=node,
        stack="prod",
        gpus=0,
        driver=False,
        ports={8000: "glm-0.service"},
        addresses=("127.0.0.1:22",),
        space=(preflight.Space("/srv/models/lab", 1_000_000, "the weights", "/srv/models/lab/manifest.json"),),
    )


def findings(node: ssh.Target) -> dict[str, preflight.CheckResult]:
    """What is not ok, by check; less what is so of every lab node: this machine's memory and cgroups, no NVMe, sources of apt."""
    ask = wanted(node)
    found = preflight.check(preflight.observe(ask), ask)
    expected = {"system", "memory", "NVMe", "network"}
    return {
        one.check: one for one in found if one.level != "ok" and not (one.level == "warning" and one.check in expected)
    }


@contextlib.contextmanager
def sick(node: ssh.Target) -> Iterator[None]:
    """The node with all five."""
    with ssh.connect(node) as connection:
        try:
            for put, _ in PUT.values():
                done = connection.run(put)
                assert done.rc == 0, done.stderr
            assert connection.run(READY, timeout=30).rc == 0
            yield
        finally:
            for _, away in PUT.values():
                connection.run(away)


def test_a_node_that_nobody_uses_is_ready(node: ssh.Target) -> None:
    assert findings(node) == {}


def test_a_node_of_the_lab_is_all_that_its_stack_wants_and_says_nothing(node: ssh.Target) -> None:
    """Or each first `up` of the lab would tell it."""
    roles = role_vars.load(ROOT / "roles")
    ask = preflight.Requirements.from_plan(
        node, requirements.of_machine(stack_file.read("lab", ROOT), roles, "glm-2", "lab")
    )
    assert [one for one in preflight.check(preflight.observe(ask), ask) if one.level != "ok"] == []


def test_five_things_that_are_wrong_are_all_found_and_gone_when_they_are_gone(node: ssh.Target) -> None:
    with sick(node):
        found = findings(node)
    assert set(found) == set(PUT)
    assert found["driver"].seen == "amdgpu is blacklisted in /etc/modprobe.d/no-gpu.conf"
    assert found["ports"].seen.startswith("/usr/bin/python3 -m http.server 8000 (web.service) listens on 8000")
    assert found["apt"].seen.endswith("of other-apt.service): /var/lib/dpkg/lock-frontend")
    assert "\n" not in found["apt"].seen, "whatever the holder's own words are"
    assert found["owner"].seen == (
        "the stack organization/glm-fleet/staging owns it since 2026-10-01T12:00:00Z (set up by ops@console)"
    )
    assert found["reboot"].seen == "pending for linux-image-amd64"
    assert findings(node) == {}


def test_a_port_that_nothing_listens_on_there_is_told_as_refused(node: ssh.Target) -> None:
    ask = dataclasses.replace(wanted(node), addresses=("127.0.0.1:1", "no-such-name.invalid:443"))
    told = {
        one.seen
        for one in preflight.check(preflight.observe(ask), ask)
        if one.check == "network" and one.level == "error"
    }
    assert told == {"127.0.0.1:1: connection refused", "no-such-name.invalid:443: the node cannot resolve the name"}


def test_looking_changes_nothing_and_takes_one_exec(node: ssh.Target) -> None:
    with ssh.connect(node) as connection:
        before = connection.run(
            "find / -xdev -newer /run/systemd/system -type f 2>/dev/null | grep -v ^/var/log | sort"
        ).stdout
        preflight.observe(wanted(node))
        after = connection.run(
            "find / -xdev -newer /run/systemd/system -type f 2>/dev/null | grep -v ^/var/log | sort"
        ).stdout
    assert after == before
