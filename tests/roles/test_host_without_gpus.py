"""Claims about playbooks/host.yml on a machine without GPUs, a bare Debian 12 node: only the role host runs there."""

import dataclasses
from typing import Any

import pytest

from fleet import ssh
from tests.support import labs, playbook
from tests.support.role_node import COMMON

pytestmark = pytest.mark.exhaustive
# As the provider passes them: variables of the role host, and its name.
VARIABLES = {
    **{name: value for name, value in COMMON.items() if name.startswith("host_")},
    "host_kernel_arguments": [],
    "host_kernel_arguments_intel": [],
    "fleet_roles": ["host"],
}


@dataclasses.dataclass(frozen=True)
class Alone:
    """The node, and its two runs."""

    node: ssh.Target
    first: playbook.Run
    second: playbook.Run


@pytest.fixture(scope="module")
def alone(lab: labs.Lab) -> Alone:
    node = labs.bare(lab.name, "alone", "debian-12", lab.folder)
    check: Any = playbook.run(node, "host", VARIABLES, check=True)
    assert check.rc == 0, check.message
    return Alone(node, playbook.run(node, "host", VARIABLES), playbook.run(node, "host", VARIABLES))


def output(node: ssh.Target, command: str) -> str:
    with ssh.connect(node) as connection:
        return connection.run(command).stdout


def test_the_host_is_set_up_without_a_reboot_and_a_second_run_changes_nothing(alone: Alone) -> None:
    assert alone.first.rc == 0, alone.first.message
    assert "Set kernel parameters" in alone.first.changed and "Reboot the host" not in alone.first.changed
    assert (alone.second.rc, alone.second.changed) == (0, [])


def test_neither_docker_nor_driver_is_installed_nor_anything_of_them_recorded(alone: Alone) -> None:
    assert "fleet_host" not in alone.second.results
    assert not output(alone.node, "command -v dockerd amd-smi; ls -d /etc/apt/sources.list.d/rocm.sources")
    before = output(alone.node, "cat /var/lib/fleet/before.json")
    assert "/etc/sysctl.d/90-fleet.conf" in before and "docker" not in before and "rocm" not in before
