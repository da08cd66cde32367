"""A machine's mark: whoever writes it first has the machine, its stack alone takes it off, and the folder goes with who made it.

The script that runs on a node, in a folder of the test. On a real node: tests/machine/test_owner.py.
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


def run(asked: dict[str, Any]) -> dict[str, Any]:
    text = script.with_call(owner.SCRIPT.read_text(), asked)
    done = subprocess.run([sys.executable, "-I", "-"], input=text, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def claim(folder: Path, stack: str = "a/b/c") -> dict[str, Any]:
    record = str(folder / "before.json")
    return run({"do": "claim", "file": str(folder / "owner.json"), "record": record, "owner": {"id": stack}})


def release(folder: Path, stack: str = "a/b/c") -> dict[str, Any]:
    return run({"do": "release", "file": str(folder / "owner.json"), "id": stack})


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


@pytest.mark.parametrize(
    ("one", "other", "whether"),
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
def test_stacks_are_compared_as_far_as_both_are_known(one: str, other: str, whether: bool) -> None:
    assert same(one, other) is same(other, one) is whether


def test_the_first_has_it_and_the_next_is_told_whose_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    assert claim(folder) == {"owner": "", "gone": False}
    told = json.loads(claim(folder, "a/b/other")["owner"])
    assert told["id"] == "a/b/c"
    assert json.loads((folder / "owner.json").read_text()) == told


def test_of_many_at_once_one_has_it(tmp_path: Path) -> None:
    with futures.ThreadPoolExecutor(8) as pool:
        told = [*pool.map(lambda number: claim(tmp_path / "fleet", f"a/b/{number}")["owner"], range(8))]
    winner = (tmp_path / "fleet" / "owner.json").read_text()
    assert sorted(told) == ["", *[winner] * 7]
    assert names(tmp_path / "fleet") == ["owner.json"]


def test_only_its_stack_takes_the_mark_off(tmp_path: Path) -> None:
    claim(tmp_path / "fleet")
    told = release(tmp_path / "fleet", "a/b/other")
    assert (json.loads(told["owner"])["id"], told["gone"]) == ("a/b/c", False)
    assert (tmp_path / "fleet" / "owner.json").exists()
    assert release(tmp_path / "fleet") == {"owner": "", "gone": True}
    assert release(tmp_path / "fleet") == {"owner": "", "gone": False}


@pytest.mark.parametrize(
    ("claims", "there", "stays"),
    [
        ("a folder that came with the mark goes with it", None, False),
        ("one that was there stays", {}, True),
        ("one that an earlier release made goes", {"before.json": '{"files": {"FOLDER": null}}'}, False),
        ("one that was there before that stays", {"before.json": '{"files": {"FOLDER": {"mode": "0755"}}}'}, True),
    ],
)
def test_the_folder_is_as_it_was_before_us(
    tmp_path: Path, claims: str, there: dict[str, str] | None, stays: bool
) -> None:
    folder = tmp_path / "fleet"
    if there is not None:
        folder.mkdir()
    for name, text in (there or {}).items():
        (folder / name).write_text(text.replace("FOLDER", str(folder)))
    claim(folder)
    for name in there or {}:  # the Host's delete takes the record along before
        (folder / name).unlink()
    release(folder)
    assert folder.exists() is stays, claims


def test_a_folder_with_something_of_others_in_it_stays(tmp_path: Path) -> None:
    claim(tmp_path / "fleet")
    (tmp_path / "fleet" / "theirs").touch()
    assert release(tmp_path / "fleet")["gone"]
    assert names(tmp_path / "fleet") == ["theirs"]


def test_an_empty_mark_is_no_free_machine(tmp_path: Path) -> None:
    (tmp_path / "owner.json").touch()
    assert claim(tmp_path)["owner"] == "?"


def test_a_mark_that_nobody_can_read_is_somebody_s() -> None:
    for text in ("?", "[]", "{}"):
        found = owner.Owner.read(text)
        assert found is not None and not found.is_of("a/b/c")
        assert "names no stack" in owner.refusal(found, ssh.Target("n", "192.0.2.1"), "a/b/c")["seen"]
    assert owner.Owner.read("") is None
