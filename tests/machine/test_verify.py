"""Claims about `fleet verify` on a machine: every byte is read, what differs is named and marked, a silent node is given up."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.managed import managed_set, reader, verify_weights
from tests.support.ssh_server import Server

FILES = {"config.json": b"{}", "sub/model.safetensors": os.urandom(3_000_000)}


class Model:
    """A model's folder with its manifest, as the role weights leaves it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, folder / "manifest.json"
        entries = {}
        for name, data in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            sha256 = hashlib.sha256(data).hexdigest()
            entries[name] = {"size": len(data), "sha256": sha256, "mtime_ns": path.stat().st_mtime_ns}
        self.manifest.write_text(json.dumps({"files": entries}))
        self.recorded = self.sum(self.manifest)

    @staticmethod
    def sum(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def flip(self, name: str) -> str:
        """Change one byte as nobody does who wants to be seen: size and time stay. Return the new sha256."""
        path = self.folder / name
        before = path.stat()
        with path.open("r+b") as file:
            file.seek(before.st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return self.sum(path)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(tmp_path / "model")


def look(server: Server, model: Model, **containers: str) -> verify_weights.Comparison:
    wanted = verify_weights.RecordedWeights(server.target, str(model.manifest), model.recorded, containers)
    return verify_weights.verify(wanted, lambda done, total: None)


def refreshed(server: Server, model: Model) -> list[str]:
    """What a refresh says of the files: it reads no more than sizes and times."""
    with ssh.connect(server.target) as connection:
        state = reader.read(connection, managed_set.Declared({f"file {model.manifest}": True}))
    wrong: list[str] = state[f"files of {model.manifest}"].get("wrong", [])
    return wrong


def test_files_as_recorded_are_right_and_nothing_is_touched(server: Server, model: Model) -> None:
    before = {name: (model.folder / name).stat().st_mtime_ns for name in FILES}
    assert look(server, model) == verify_weights.Comparison(2, 3_000_002, [])
    assert {name: (model.folder / name).stat().st_mtime_ns for name in FILES} == before
    assert len(server.commands) == 1


def test_a_flipped_byte_that_no_refresh_sees_is_named_and_then_seen_by_the_next_refresh(
    server: Server, model: Model
) -> None:
    seen = model.flip("sub/model.safetensors")
    assert refreshed(server, model) == []
    expected = hashlib.sha256(FILES["sub/model.safetensors"]).hexdigest()
    found = look(server, model)
    assert found.wrong == [
        {"what": "sub/model.safetensors", "expected": f"sha256 {expected}", "seen": f"sha256 {seen}"}
    ]
    assert refreshed(server, model) == ["sub/model.safetensors (written to)"]


def test_what_is_gone_or_of_another_size_is_named_without_a_sum(server: Server, model: Model) -> None:
    (model.folder / "config.json").unlink()
    (model.folder / "sub/model.safetensors").write_bytes(b"short")
    assert [(one["what"], one["seen"]) for one in look(server, model).wrong] == [
        ("config.json", "absent"),
        ("sub/model.safetensors", "5 bytes"),
    ]


def test_a_manifest_that_is_not_the_recorded_one_proves_no_file(server: Server, model: Model) -> None:
    """Somebody who changes a file may change its entry as well: then all files have to be verified against the hub."""
    seen = model.flip("config.json")
    text = json.loads(model.manifest.read_text())
    text["files"]["config.json"]["sha256"] = seen
    model.manifest.write_text(json.dumps(text))
    assert [one["what"] for one in look(server, model).wrong] == ["manifest.json"]
    assert refreshed(server, model) == ["config.json (written to)", "sub/model.safetensors (written to)"]


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"../a": {"size": 1, "sha256": "0"}}}', '{"files": {"a": {}}}'])
def test_a_manifest_that_says_nothing_usable_is_what_differs(server: Server, model: Model, text: str) -> None:
    model.manifest.write_text(text)
    found = look(server, model)
    assert (found.files, [one["what"] for one in found.wrong]) == (0, ["manifest.json"])


def test_a_container_of_another_image_is_named(
    server: Server, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$4" = glm-0 ] && echo sha256:aa\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert look(server, model, **{"glm-0": "sha256:aa", "glm-1": "sha256:bb"}).wrong == [
        {"what": "container glm-1", "expected": "image sha256:bb", "seen": "absent"}
    ]


def test_progress_is_told_in_bytes(server: Server, model: Model) -> None:
    told: list[tuple[int, int]] = []
    wanted = verify_weights.RecordedWeights(server.target, str(model.manifest), model.recorded, {})
    verify_weights.verify(wanted, lambda done, total: told.append((done, total)))
    assert told[-1] == (3_000_002, 3_000_002)


@pytest.mark.slow
def test_a_disk_that_hangs_ends_with_a_message(server: Server, model: Model) -> None:
    """A pipe that nobody writes to is read for ever, as a file on a disk that hangs."""
    hangs = model.folder / "hangs"
    os.mkfifo(hangs)
    model.manifest.write_text(json.dumps({"files": {"hangs": {"size": 0, "sha256": "0" * 64}}}))
    wanted = verify_weights.RecordedWeights(server.target, str(model.manifest), model.sum(model.manifest), {})
    try:
        with pytest.raises(errors.CommandFailed, match=r"no output for 3 s"):
            verify_weights.verify(wanted, lambda done, total: None, silence=3)
    finally:
        with hangs.open("w"):  # the process on the machine ends
            pass
