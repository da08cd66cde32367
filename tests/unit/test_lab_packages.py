"""Which packages the lab takes for installed, asked of the real dpkg with a database of the test's own."""

import shutil
from pathlib import Path

import pytest

from lab.images import rootfs

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="needs dpkg")


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


def test_a_package_that_another_one_suggests_is_not_taken_for_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "updates").mkdir()
    (tmp_path / "status").write_text(DATABASE)
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))

    assert rootfs.installed() == {"mmdebstrap"}
