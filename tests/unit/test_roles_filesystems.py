"""roles/host/files/filesystems.py decides which disk may be formatted: only one that is empty, and only once.

The machine is a stand-in: the test sets the output of lsblk, blkid and the kernel. tests/roles/test_filesystems.py has real disks.
"""

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "roles" / "host" / "files" / "filesystems.py"
UUID, OTHER = "74d88434-35d9-5526-a414-8f28edae097a", "11111111-35d9-5526-a414-8f28edae097a"


@pytest.fixture
def script() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("filesystems", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Machine:
    """One disk nvme1n1 with the serial S1, and what lsblk, blkid and the kernel report of it."""

    def __init__(self, script: types.ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script, self.path, self.record = script, folder / "srv", folder / "record.json"
        self.disks, self.mounts = {"S1": ["nvme1n1"]}, list[tuple[str, str]]()
        self.identity: dict[str, str] = {}
        self.holds = ""
        block = folder / "block" / "nvme1n1"
        (block / "holders").mkdir(parents=True)
        for name, value in {"dev": "259:1", "size": "2048", "ro": "0"}.items():
            (block / name).write_text(value)
        self.block = block
        monkeypatch.setattr(script, "SYS", str(folder / "block"))
        monkeypatch.setattr(script, "_disks", lambda: self.disks)
        monkeypatch.setattr(script, "_mounts", lambda: self.mounts)
        monkeypatch.setattr(script, "_identity", lambda _device: self.identity)

    def look(self, holds: str | None = "", **change: str) -> dict[str, Any]:
        if holds is not None:
            self.script._holds = lambda _name, _device: holds
        entry = {"serial": "S1", "path": str(self.path), "type": "ext4", "uuid": UUID, **change}
        (filesystem,) = self.script.filesystems([entry], str(self.record))
        return dict(filesystem)

    def state(self, holds: str | None = "", **change: str) -> tuple[str, str]:
        filesystem = self.look(holds, **change)
        return filesystem["state"], filesystem["why"].replace(str(self.path), "/srv")


@pytest.fixture
def machine(script: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(script, tmp_path, monkeypatch)


def test_an_empty_disk_may_be_formatted_and_ours_is_ready(machine: Machine) -> None:
    assert machine.state() == ("empty", "")
    assert machine.look()["bytes"] == 1 << 20
    machine.identity = {"UUID": UUID, "TYPE": "ext4"}
    assert machine.state("anything") == ("ready", "")
    assert machine.look()["mounted"] is False
    machine.mounts = [("259:1", str(machine.path))]
    machine.path.mkdir()
    (machine.path / "models").touch()
    assert machine.state() == ("ready", "") and machine.look()["mounted"] is True


def test_a_serial_that_no_disk_or_that_two_have_is_refused(machine: Machine) -> None:
    assert machine.state(serial="S2") == ("absent", "no disk has this serial")
    machine.disks["S1"].append("nvme2n1")
    assert machine.state() == ("refused", "nvme1n1 and nvme2n1 have this serial")


def test_a_disk_that_is_not_empty_is_refused_even_after_a_killed_run(machine: Machine) -> None:
    assert machine.state("it holds ext4") == ("refused", "it holds ext4")
    assert machine.state("its first MiB is not zero") == ("refused", "its first MiB is not zero")
    machine.record.write_text(json.dumps({"S1": {"state": "making"}}))
    assert machine.state("it holds ext4") == ("refused", "it holds ext4")
    assert machine.state("its first MiB is not zero") == ("empty", "")


def test_our_own_disk_is_never_formatted_again_or_mounted_twice(machine: Machine) -> None:
    machine.identity = {"UUID": UUID, "TYPE": "xfs"}
    assert machine.state() == ("refused", "we made xfs there, ext4 is wanted")
    machine.identity = {"UUID": UUID, "TYPE": "ext4"}
    machine.mounts = [("259:1", "/elsewhere")]
    assert machine.state() == ("refused", "it is mounted at /elsewhere")
    machine.mounts = [("8:1", str(machine.path))]
    assert machine.state() == ("refused", "something else is mounted at /srv")


def test_a_folder_that_is_not_empty_or_a_link_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine.path.mkdir()
    assert machine.state() == ("empty", "")
    for name in "abcd":
        (machine.path / name).touch()
    assert machine.state() == ("refused", "/srv holds a, b, c …, which a mount would hide")
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert machine.state(path=str(link))[0] == machine.state(path=str(link / "below"))[0] == "refused"


def test_a_disk_with_partitions_users_or_mounts_or_read_only_is_refused(machine: Machine, tmp_path: Path) -> None:
    (machine.block / "holders" / "dm-0").mkdir()
    (tmp_path / "block" / "dm-0" / "dm").mkdir(parents=True)
    (tmp_path / "block" / "dm-0" / "dm" / "name").write_text("vg-data\n")
    assert machine.state(None) == ("refused", "vg-data uses it")
    (machine.block / "nvme1n1p1").mkdir()
    (machine.block / "nvme1n1p1" / "partition").write_text("1")
    assert machine.state(None) == ("refused", "it has partitions (nvme1n1p1)")
    (machine.block / "nvme1n1p1" / "partition").unlink()
    (machine.block / "holders" / "dm-0").rmdir()
    machine.mounts = [("259:1", "/mnt")]
    assert machine.state(None) == ("refused", "it is mounted at /mnt")
    machine.mounts = []
    (machine.block / "ro").write_text("1")
    assert machine.state(None) == ("refused", "it is read-only")
    (machine.block / "ro").write_text("0")
    assert machine.state(None)[1].startswith("it is in use (")  # there is no such device here


@pytest.mark.parametrize(("offset", "end"), [(0, "first"), (70_000, "first"), ((2 << 20) - 1, "last")])
def test_a_byte_at_either_end_is_reported(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int, end: str
) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(2 << 20)
    monkeypatch.setattr(machine.script, "_run", lambda *_: subprocess.CompletedProcess((), 0, "", ""))
    assert machine.script._holds("nvme1n1", str(disk)) == ""
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(b"x")
    assert machine.script._holds("nvme1n1", str(disk)) == f"its {end} MiB is not zero"


def test_the_weights_fetcher_reports_that_its_disk_is_not_mounted(tmp_path: Path) -> None:
    units = {
        "srv.mount": "# managed by the role host.\nWhere=/srv-of-nobody\n",
        "proc.mount": "# managed by the role host.\nWhere=/proc\n",
        "other.mount": "# of somebody else\nWhere=/srv-of-nobody/models\n",
    }
    for name, text in units.items():
        (tmp_path / name).write_text(text)

    def missing(folder: str) -> str:
        command = [sys.executable, ROOT / "fleet" / "weights_fetcher" / "mounted.py", folder, tmp_path]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert missing("/srv-of-nobody/models") == "srv.mount is not mounted at /srv-of-nobody"
    assert missing("/srv-of-nobody") == "srv.mount is not mounted at /srv-of-nobody"
    assert missing("/srv-of-nobody2") == missing("/proc/models") == missing("/srv") == ""


def test_make_never_formats_a_refused_disk(tmp_path: Path) -> None:
    """As the role calls it, with programs that report every disk as full, and a mkfs that records each call."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    disk = min(path.name for path in Path("/sys/block").iterdir())
    programs = {
        "lsblk": f"""echo '{json.dumps({"blockdevices": [{"name": disk, "serial": "S 1"}]})}'""",
        "blkid": "printf 'DEVNAME=x\\nUUID=" + OTHER + "\\nTYPE=xfs\\n'",
        "wipefs": "true",
        "mkfs.ext4": f"touch {tmp_path}/made",
    }
    for name, line in programs.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin_ / name).chmod(0o755)
    entry = {"serial": "S_1", "path": str(tmp_path / "srv"), "type": "ext4", "uuid": UUID}
    query = json.dumps({"filesystems": [entry], "record": str(tmp_path / "record.json")})
    command, env = [sys.executable, SCRIPT, "make"], {**os.environ, "PATH": f"{bin_}:/usr/bin:/bin"}
    process = subprocess.run(command, input=query, env=env, capture_output=True, text=True)
    assert process.returncode == 1 and process.stderr.startswith("disk S_1: it ")
    assert process.stderr.endswith("; nothing was written to it\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
