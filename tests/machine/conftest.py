"""Fixtures of the tests of a machine: an SSH server in this process, a machine with a BMC, a lab node to change and read.

The node lasts for the session, with a Docker daemon and one small image.
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
    """A lab node with a Docker daemon."""
    with labs.stand("glm-machine", {"debian": "debian-12"}, tmp_path_factory.mktemp("lab") / "keys") as lab:
        target = lab.nodes["debian"]
        with ssh.connect(target) as connection:
            result = connection.run(PREPARE, timeout=300)
        assert result.rc == 0, result.stderr
        yield target


@pytest.fixture(scope="session")
def first_run(node: ssh.Target, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The first run of the playbook `kinds` on the node."""
    return run(job(node, tmp_path_factory.mktemp("first-run") / "run.log"))


@pytest.fixture(scope="session")
def expected(node: ssh.Target, first_run: Run) -> managed_set.State:
    """The node's state right after that run."""
    return reader.read_many(node, [first_run.outcome.declared])[0]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[redfish_machine.Machine]:
    """A machine with a BMC that is switched off, its disk empty; a folder of the test keeps the installers."""
    (tmp_path / "installers").mkdir()
    monkeypatch.setattr(installer_image, "_folder", lambda: tmp_path / "installers")
    monkeypatch.setattr(installer_image, "_verified", {})
    with redfish_machine.machine(tmp_path) as machine:
        yield machine


@pytest.fixture
def cancelled() -> threading.Event:
    """Cancels the work once a test sets it."""
    return threading.Event()
