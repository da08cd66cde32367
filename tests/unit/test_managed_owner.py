"""A machine's mark: the first stack that writes it owns the machine, only that stack removes it, and the folder goes with its creator.

Here the script of a node runs in a folder of the test; tests/machine/test_owner.py runs it on a node.
"""

import json
import subprocess
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from fleet import ssh
from fleet.managed import owner
from fleet.managed.on_node_owner import same
from fleet.ssh import script


def run(arguments: dict[str, Any]) -> Any:
    text = script.with_call(owner.SCRIPT.read_text(), arguments)
    command = [sys.executable, "-I", "-"]
    return json.loads(subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout)


def claim(folder: Path, stack: str = "a/b/c") -> Any:
    record = str(folder / "before.json")
    return run({"do": "claim", "file": str(folder / "owner.json"), "record": record, "owner": {"id": stack}})


def release(folder: Path, stack: str = "a/b/c") -> Any:
    return run({"do": "release", "file": str(folder / "owner.json"), "id": stack})


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ("a/b/c", "a/b/c", True),
        ("b/c", "a/b/c", True),
        ("a/b/c", "c", True),
        ("a/b/c", "x/b/c", False),
        ("b/d", "a/b/c", False),
        ("c", "cc", False),
        ("", "a/b/c", False),
    ],
)
def test_two_stacks_are_compared_by_the_parts_that_both_have(first: str, second: str, equal: bool) -> None:
    assert same(first, second) is same(second, first) is equal


def test_the_first_stack_owns_the_machine_and_the_next_gets_the_owner_s_name(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    assert claim(folder) == {"owner": "", "gone": False}
    mark = json.loads(claim(folder, "a/b/other")["owner"])
    assert mark["id"] == "a/b/c"
    assert json.loads((folder / "owner.json").read_text()) == mark


def test_of_many_stacks_at_once_one_owns_the_machine(tmp_path: Path) -> None:
    with futures.ThreadPoolExecutor(8) as pool:
        owners = [*pool.map(lambda number: claim(tmp_path / "fleet", f"a/b/{number}")["owner"], range(8))]
    winner = (tmp_path / "fleet" / "owner.json").read_text()
    assert sorted(owners) == ["", *[winner] * 7]
    assert names(tmp_path / "fleet") == ["owner.json"]


def test_only_the_owner_removes_the_mark(tmp_path: Path) -> None:
    claim(tmp_path / "fleet")
    answer = release(tmp_path / "fleet", "a/b/other")
    assert (json.loads(answer["owner"])["id"], answer["gone"]) == ("a/b/c", False)
    assert (tmp_path / "fleet" / "owner.json").exists()
    assert release(tmp_path / "fleet") == {"owner": "", "gone": True}
    assert release(tmp_path / "fleet") == {"owner": "", "gone": False}


@pytest.mark.parametrize(
    ("claims", "exists", "baseline", "stays"),
    [
        ("a folder that the claim creates goes with the mark", False, "", False),
        ("an existing folder stays", True, "", True),
        ("a folder that an earlier release created goes", True, '{"files": {"FOLDER": null}}', False),
        ("a folder from before that release stays", True, '{"files": {"FOLDER": {"mode": "0755"}}}', True),
    ],
)
def test_a_release_restores_the_folder_s_original_state(
    tmp_path: Path, claims: str, exists: bool, baseline: str, stays: bool
) -> None:
    folder = tmp_path / "fleet"
    record = folder / "before.json"
    if exists:
        folder.mkdir()
    if baseline:
        record.write_text(baseline.replace("FOLDER", str(folder)))
    claim(folder)
    record.unlink(missing_ok=True)  # the Host's delete removes it first
    release(folder)
    assert folder.exists() is stays, claims


def test_a_folder_with_another_file_stays(tmp_path: Path) -> None:
    claim(tmp_path / "fleet")
    (tmp_path / "fleet" / "theirs").touch()
    assert release(tmp_path / "fleet")["gone"]
    assert names(tmp_path / "fleet") == ["theirs"]


def test_a_machine_with_an_empty_mark_is_not_free(tmp_path: Path) -> None:
    (tmp_path / "owner.json").touch()
    assert claim(tmp_path)["owner"] == "?"


def test_a_machine_with_an_unreadable_mark_is_not_free() -> None:
    for text in ("?", "[]", "{}"):
        mark = owner.Owner.read(text)
        assert mark is not None and not mark.is_of("a/b/c")
        assert "names no stack" in owner.refusal(mark, ssh.Target("n", "192.0.2.1"), "a/b/c")["seen"]
    assert owner.Owner.read("") is None
