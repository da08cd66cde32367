"""What the lab reads from this machine's packages: which are installed (the real dpkg, with the test's own database), and where
Debian's archive is (an apt that counts)."""

import contextlib
import threading
from concurrent import futures
from pathlib import Path

import pytest

from lab.images import rootfs

ABOUT = "Version: 1\nArchitecture: all\nMaintainer: Nobody <nobody@fleet.example>\nDescription: one of the test's\n"
DATABASE = f"""
Package: mmdebstrap
Status: install ok installed
{ABOUT}
Package: debootstrap
Status: unknown ok not-installed

Package: zstd
Status: deinstall ok config-files
Config-Version: 1
{ABOUT}
"""


@pytest.mark.needs("dpkg-query")
def test_a_package_that_another_one_suggests_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "updates").mkdir()
    (tmp_path / "status").write_text(DATABASE)
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))
    assert rootfs.installed() == {"mmdebstrap"}


def test_two_builds_without_package_lists_fetch_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = []
    both = threading.Barrier(2)

    def apt(*command: str) -> str:
        if "update" in command:
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.3)  # long enough for a second update that no lock prevents
            updates.append(command)
        return "http://archive.example/debian/" if updates else ""

    monkeypatch.setattr(rootfs, "run", apt)
    rootfs.debian.cache_clear()
    with futures.ThreadPoolExecutor(2) as pool:
        archives = [pool.submit(rootfs.debian) for _ in range(2)]
        assert {archive.result() for archive in archives} == {"http://archive.example/debian"}
    rootfs.debian.cache_clear()
    assert len(updates) == 1
