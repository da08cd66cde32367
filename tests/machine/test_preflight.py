"""The preflight on a real node: it reads the node, finds the test's faults, and changes nothing."""

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
# Five faults that a preflight must find, as shell commands on the node: each with the one that removes it.
FAULTS = {
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
FILES = "find / -xdev -newer /run/systemd/system -type f 2>/dev/null | grep -v ^/var/log | sort"


def requirements_of(node: ssh.Target) -> preflight.Requirements:
    """Return a plan's requirements: no driver, since the node's kernel is this machine's, which has no headers."""
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
    """Return what is not ok, by check; less what holds for every lab node: this machine's memory and cgroups, no NVMe, sources of apt."""
    ask, expected = requirements_of(node), {"system", "memory", "NVMe", "network"}
    results = [result for result in preflight.check(preflight.observe(ask), ask) if result.level != "ok"]
    return {result.check: result for result in results if result.level != "warning" or result.check not in expected}


@contextlib.contextmanager
def faulty(node: ssh.Target) -> Iterator[None]:
    """Give the node all five faults, and remove them afterwards."""
    with ssh.connect(node) as connection:
        try:
            for command, _ in FAULTS.values():
                result = connection.run(command)
                assert result.rc == 0, result.stderr
            assert connection.run(READY, timeout=30).rc == 0
            yield
        finally:
            for _, remedy in FAULTS.values():
                connection.run(remedy)


def test_a_node_that_nobody_uses_is_ready(node: ssh.Target) -> None:
    assert findings(node) == {}


def test_a_node_of_the_lab_meets_its_stack_s_requirements_without_a_message(node: ssh.Target) -> None:
    """Or each first `up` of the lab would print it."""
    roles = role_vars.load(ROOT / "roles")
    wants = requirements.of_machine(stack_file.read("lab", ROOT), roles, "glm-2", "lab")
    ask = preflight.Requirements.from_plan(node, wants)
    assert [result for result in preflight.check(preflight.observe(ask), ask) if result.level != "ok"] == []


def test_a_preflight_finds_all_five_faults_and_none_after_their_removal(node: ssh.Target) -> None:
    with faulty(node):
        messages = {check: result.seen for check, result in findings(node).items()}
    assert set(messages) == set(FAULTS)
    assert messages["driver"] == "amdgpu is blacklisted in /etc/modprobe.d/no-gpu.conf"
    assert messages["ports"].startswith("/usr/bin/python3 -m http.server 8000 (web.service) listens on 8000")
    assert messages["apt"].endswith("of other-apt.service): /var/lib/dpkg/lock-frontend")
    assert "\n" not in messages["apt"], "whatever the holder's own words are"
    assert messages["owner"] == (
        "the stack organization/glm-fleet/staging owns it since 2026-10-01T12:00:00Z (set up by ops@console)"
    )
    assert messages["reboot"] == "pending for linux-image-amd64"
    assert findings(node) == {}


def test_a_preflight_reports_a_closed_port_and_an_unknown_name(node: ssh.Target) -> None:
    ask = dataclasses.replace(requirements_of(node), addresses=("127.0.0.1:1", "no-such-name.invalid:443"))
    results = [result for result in preflight.check(preflight.observe(ask), ask) if result.level == "error"]
    messages = {result.seen for result in results if result.check == "network"}
    assert messages == {"127.0.0.1:1: connection refused", "no-such-name.invalid:443: the node cannot resolve the name"}


def test_a_look_changes_nothing(node: ssh.Target) -> None:
    with ssh.connect(node) as connection:
        before = connection.run(FILES).stdout
        preflight.observe(requirements_of(node))
        assert connection.run(FILES).stdout == before
