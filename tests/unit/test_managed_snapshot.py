"""The last good state of a node: kept before a change, restored after a failed one, dropped after a good one. The script runs here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.managed import snapshot
from fleet.ssh import script
from tests.support.node_proxy import Node

REPLICAS = [{"name": "glm-0", "model": "m", "port": 8000}]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "node").mkdir()
    return Node(tmp_path / "node")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that a good change has left."""
    file = tmp_path / "etc" / "key.env"
    file.parent.mkdir()
    file.write_text("KEY=old\n")
    file.chmod(0o600)
    return file


def run(node: Node, arguments: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    text = script.with_call(snapshot.SCRIPT.read_text(), {"folder": str(node.folder / "last"), **arguments})
    environment = {**os.environ, "PATH": node.path}
    return subprocess.run([sys.executable, "-I", "-"], input=text, capture_output=True, text=True, env=environment)


def take(node: Node, *files: Path, good: bool = True, units: tuple[str, ...] = ("glm-0.service",)) -> Any:
    names = {"files": [*map(str, files)], "units": [*units], "replicas": REPLICAS, "good": good}
    return json.loads(run(node, {"do": "take", **names}).stdout)


def restore(
    node: Node,
    *files: Path,
    units: tuple[str, ...] = ("glm-0.service",),
    seconds: float = 5,
    restart: tuple[str, ...] = (),
    force: bool = False,
) -> Any:
    """Restore after a failed change with these files and units; return the last line."""
    names = {"files": [*map(str, files)], "units": [*units], "restart": [*restart], "force": force}
    result = run(node, {"do": "restore", "seconds": seconds, **names})
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_things_are_split_into_files_and_units() -> None:
    things = ["file /etc/a b", "unit glm-0.service", "package docker.io", "user x"]
    assert snapshot.names(things) == {"files": ["/etc/a b"], "units": ["glm-0.service"]}


def test_a_file_is_restored_with_content_mode_and_owner(node: Node, file: Path) -> None:
    os.chown(file, 1234, 4321)
    assert take(node, file) == {"kept": True, "unfinished": False}
    file.write_text("KEY=new, and longer\n")
    file.chmod(0o644)
    os.chown(file, 0, 0)
    assert restore(node, file) == {"done": True, "starting": [], "failed": [], "replicas": REPLICAS}
    stat = file.stat()
    assert (file.read_text(), stat.st_mode & 0o777, stat.st_uid, stat.st_gid) == ("KEY=old\n", 0o600, 1234, 4321)
    assert [path.name for path in file.parent.iterdir()] == ["key.env"]


def test_a_file_that_the_change_removed_is_there_again(node: Node, file: Path) -> None:
    take(node, file)
    file.unlink()
    file.parent.rmdir()
    restore(node)
    assert file.read_text() == "KEY=old\n"


def test_what_the_change_added_is_removed_and_its_units_stop(node: Node, file: Path) -> None:
    take(node, file)
    added = file.with_name("added.yaml")
    added.touch()
    restore(node, file, added, file.parent, units=("glm-0.service", "glm-1.service"))
    assert not added.exists() and file.exists()
    assert node.systemctl[0] == "disable --now glm-1.service"


def test_units_are_read_again_enabled_and_restarted(node: Node, file: Path) -> None:
    take(node, file)
    file.write_text("KEY=new\n")
    restore(node, file)
    assert [line.split()[0] for line in node.systemctl] == ["daemon-reload", "enable", "reset-failed", "restart"]


@pytest.mark.parametrize(("word", "restarts"), [("active", 0), ("failed", 1)])
def test_a_change_that_failed_before_it_wrote_anything_restarts_only_what_does_not_run(
    node: Node, file: Path, word: str, restarts: int
) -> None:
    take(node, file)
    node.put_unit("glm-0", word)
    restore(node, file)
    assert sum(line.startswith("restart") for line in node.systemctl) == restarts


def test_one_replica_goes_back_while_the_others_run(node: Node, file: Path) -> None:
    node.put_unit("glm-1", "active")
    take(node, file, units=("glm-0.service", "glm-1.service"))
    file.write_text("KEY=new\n")
    assert restore(node, file, restart=("glm-1.service",))["done"]
    assert file.read_text() == "KEY=old\n"
    assert [line for line in node.systemctl if "glm-0" in line] == []
    assert node.systemctl[-1] == "restart --no-block glm-1.service"
    restore(node, file, restart=("glm-0.service",))
    assert node.systemctl[-1] == "enable glm-0.service", "no file differs"
    restore(node, file, restart=("glm-0.service",), force=True)
    assert node.systemctl[-1] == "restart --no-block glm-0.service"


@pytest.mark.parametrize("word", ["failed", "activating"])
def test_a_replica_that_does_not_start_in_time_has_failed(node: Node, file: Path, word: str) -> None:
    take(node, file)
    file.write_text("KEY=new\n")
    (node.folder / "started").write_text(f"{word}\n")
    assert restore(node, file, seconds=0.4)["failed"] == ["glm-0.service"]


def test_what_an_unfinished_change_has_kept_stays(node: Node, file: Path) -> None:
    take(node, file)
    file.write_text("KEY=half\n")
    assert take(node, file) == {"kept": True, "unfinished": True}
    restore(node, file)
    assert file.read_text() == "KEY=old\n"


def test_a_state_that_is_not_good_is_not_kept(node: Node, file: Path) -> None:
    assert take(node, file, good=False) == {"kept": False, "unfinished": False}
    assert not (node.folder / "last").exists()


def test_only_root_reads_what_is_kept_and_a_drop_removes_it(node: Node, file: Path) -> None:
    take(node, file)
    folder = node.folder / "last"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "serving.tar").stat().st_mode & 0o777 == 0o600
    assert run(node, {"do": "drop"}).returncode == 0
    assert not folder.exists()


def test_links_and_folders_are_not_kept(node: Node, file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to("/etc/shadow")
    take(node, link, file.parent)
    assert json.loads((node.folder / "last" / "serving.json").read_text())["files"] == []


@pytest.mark.parametrize("damage", ["serving.tar", "serving.json"])
def test_damaged_files_end_in_words(node: Node, file: Path, damage: str) -> None:
    take(node, file)
    (node.folder / "last" / damage).write_bytes(b"\x00")
    result = run(node, {"do": "restore", "files": [], "units": [], "seconds": 1})
    assert result.returncode == 1
    assert result.stderr.startswith(f"the kept files in {node.folder}/last: ")
