"""Claims about deletion: what our runs put on a bare machine goes, and what was there before them is as it was (take-off.yml).

Goes the provider's own way (apply, then delete), with the real playbooks. What stays on purpose is named here.
"""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.machine import ssh
from fleet.plan import rolevars
from fleet.provider import resources
from fleet.provider.playbook import Playbook, Slots
from fleet.provider.resources import Request
from lab import machine
from tests import lab as labs
from tests.matrix import scenario
from tests.roles.conftest import COMMON, SERVED

# Dependencies of our packages stay, marked as automatic: apt cannot tell whether somebody else counts on them by now, nor can we.
# The engine's package leaves its group and the engine's own key behind when it is purged.
# The engine's options were merged into a file that was there before us: our keys stay in it. Keys of the registry lie in folders
# that the engine's package owns. GRUB's rendered configuration is rendered anew, without our arguments.
STAYS = ("/etc/docker/daemon.json", "/etc/docker/key.json", "/etc/containerd/", "/boot/grub/", "/srv/models/")
# Logs, caches and databases of the package system change with every package that comes or goes.
LOOK = """
find /etc /usr/local /srv /boot -xdev -type f ! -path '/etc/ssl/certs/*' ! -name '*.cache' ! -name '*-' ! -path /etc/mtab \
  ! -path /etc/group ! -path /etc/gshadow -print0 | xargs -0 sha256sum | sort -k 2
"""
GROUPS = "getent group"
NEW_GROUPS = {"docker", "render"}  # of the engine's package; of udev, for which the lab's GPUs stand in
PACKAGES = "dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n' | grep ^ii"


class Bare:
    """A node, and what it looks like."""

    def __init__(self, target: ssh.Target) -> None:
        self.target = target

    def files(self) -> set[str]:
        return set(self._lines(LOOK))

    def packages(self) -> set[str]:
        return set(self._lines(PACKAGES))

    def groups(self) -> set[str]:
        return {line.split(":")[0] for line in self._lines(GROUPS)}

    def automatic(self) -> set[str]:
        """Packages that nothing needs any more: what ours depended on, which `apt-get autoremove` would take."""
        names = [line.split()[1] for line in self._lines("apt-get -s autoremove") if line.startswith("Remv ")]
        return {line for line in self.packages() if line.split()[1] in names}

    def _lines(self, command: str) -> list[str]:
        with ssh.connect(self.target) as connection:
            done = connection.run(command)
        assert done.rc == 0, done.stderr
        return done.stdout.splitlines()


CELLS = [
    pytest.param(system, marks=() if usual else pytest.mark.exhaustive, id=system)
    for system, _, usual in scenario.cells("test_take_off.py")
]


@pytest.fixture(params=CELLS)
def bare(lab: labs.Lab, request: pytest.FixtureRequest) -> Iterator[Bare]:
    yield Bare(labs.bare(lab.name, "bare", request.param, lab.folder))
    machine.remove(lab.name, "bare")


def test_a_deleted_host_is_what_it_was_before(
    lab: labs.Lab, bare: Bare, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(resources, "state_dir", lambda: tmp_path)
    files, packages, groups = bare.files(), bare.packages(), bare.groups()
    roles = rolevars.load(resources.ROOT / "roles")
    node = {name: getattr(bare.target, name) for name in ("name", "address", "port", "user", "identity", "host_key")}
    kinds = {"Host": Playbook("Host", ("gpus", "driver"), Slots()), "Weights": Playbook("Weights", ("path",), Slots())}
    made = {}
    for kind, resource in kinds.items():
        values = roles.part(kind.lower(), {**lab.vars, **COMMON, **SERVED})
        inputs = {"node": node, "roles": roles.files(kind.lower()), "vars": values}
        made[kind] = resource.apply(asking(kind), inputs, None)
    assert bare.packages() > packages and bare.files() - files
    for kind in reversed(kinds):
        kinds[kind].delete(asking(kind), made[kind])
    left = bare.packages()
    assert left >= packages
    assert left - packages <= bare.automatic()
    assert bare.groups() - groups <= NEW_GROUPS
    assert {line for line in bare.files() ^ files if not any(place in line for place in STAYS)} == set()


def asking(kind: str) -> Request:
    return Request(
        f"urn:pulumi:test::glm-fleet::fleet:index:{kind}::bare", lambda _text, _ephemeral: None, threading.Event()
    )
