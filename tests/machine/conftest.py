"""Fixtures of the tests of what is on a machine: an SSH server in this process for reaching, a machine with a BMC, a lab node for changing and reading.

The node is made once a session, with an engine and one small image in it.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import ssh
from fleet.bare_metal import installer_image
from fleet.managed import managed_set, reader
from tests.support import labs, redfish_machine
from tests.support.kinds_run import Run, job, run
from tests.support.ssh_server import Server

PREPARE = """
set -e
export DEBIAN_FRONTEND=noninteractive
command -v docker >/dev/null || { apt-get update -q; apt-get install -qy --no-install-recommends docker.io; }
command -v busybox >/dev/null || apt-get install -qy --no-install-recommends busybox-static
command -v sudo >/dev/null || apt-get install -qy --no-install-recommends sudo
docker image inspect lab/box:1 >/dev/null 2>&1 || tar -c -C / bin/busybox | docker import - lab/box:1
systemctl stop kinds kinds-box fleet-work.slice 2>/dev/null || true
docker rm --force kinds-box 2>/dev/null || true
userdel kinds 2>/dev/null || true
groupdel kinds 2>/dev/null || true
rm -rf /etc/kinds /etc/sysctl.d/90-kinds.conf /etc/slow /run/slow-polls /etc/systemd/system/kinds* /etc/default/grub.d/kinds.cfg
systemctl daemon-reload
apt-get purge -qy hello
echo theirs | tee /etc/foreign-kinds > /etc/replaced-kinds
id ops >/dev/null 2>&1 || useradd --create-home ops
install -d -m 0700 -o ops /home/ops/.ssh
install -m 0600 -o ops /root/.ssh/authorized_keys /home/ops/.ssh/authorized_keys
echo "ops ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/ops
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An SSH server in this process."""
    server = Server(tmp_path)
    yield server
    server.close()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssh.Target]:
    """A lab node with an engine."""
    with labs.stand("glm-machine", {"debian": "debian-12"}, tmp_path_factory.mktemp("lab") / "keys") as standing:
        target = standing.nodes["debian"]
        with ssh.connect(target) as connection:
            prepared = connection.run(PREPARE, timeout=300)
        assert prepared.rc == 0, prepared.stderr
        yield target


@pytest.fixture(scope="session")
def settled(node: ssh.Target, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The first run of the playbook `kinds` on the node."""
    return run(job(node, tmp_path_factory.mktemp("settled") / "run.log"))


@pytest.fixture(scope="session")
def expected(node: ssh.Target, settled: Run) -> managed_set.State:
    """The node's state right after that run."""
    return reader.read_many(node, [settled.outcome.declared])[0]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[redfish_machine.Machine]:
    """A machine with a BMC that is switched off, its disk empty; installers are kept in a folder of the test."""
    (tmp_path / "installers").mkdir()
    monkeypatch.setattr(installer_image, "_folder", lambda: tmp_path / "installers")
    monkeypatch.setattr(installer_image, "_verified", {})
    with redfish_machine.machine(tmp_path) as made:
        yield made


@pytest.fixture
def cancelled() -> threading.Event:
    """What ends the work on it, once it is set."""
    return threading.Event()
