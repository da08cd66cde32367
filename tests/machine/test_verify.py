"""Claims about `fleet verify` on a machine: it reads every byte, names and marks what differs, and gives up a silent node."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.managed import managed_set, reader, verify_weights
from tests.support.programs import write_program
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
        """Change one byte in secret, with the same size and time. Return the new sha256."""
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


def verify(server: Server, model: Model, **containers: str) -> verify_weights.Comparison:
    weights = verify_weights.RecordedWeights(server.target, str(model.manifest), model.recorded, containers)
    return verify_weights.verify(weights, lambda done, total: None)


def refresh(server: Server, model: Model) -> list[str]:
    """Return the files that a refresh reports: it reads no more than sizes and times."""
    with ssh.connect(server.target) as connection:
        state = reader.read(connection, managed_set.Declared({f"file {model.manifest}": True}))
    wrong: list[str] = state[f"files of {model.manifest}"].get("wrong", [])
    return wrong


def test_verify_accepts_files_as_recorded_and_touches_nothing(server: Server, model: Model) -> None:
    before = {name: (model.folder / name).stat().st_mtime_ns for name in FILES}
    assert verify(server, model) == verify_weights.Comparison(2, 3_000_002, [])
    assert {name: (model.folder / name).stat().st_mtime_ns for name in FILES} == before
    assert len(server.commands) == 1


def test_verify_names_a_flipped_byte_that_no_refresh_reports_and_the_next_refresh_reports_it(
    server: Server, model: Model
) -> None:
    flipped = model.flip("sub/model.safetensors")
    assert refresh(server, model) == []
    expected = hashlib.sha256(FILES["sub/model.safetensors"]).hexdigest()
    assert verify(server, model).wrong == [
        {"what": "sub/model.safetensors", "expected": f"sha256 {expected}", "seen": f"sha256 {flipped}"}
    ]
    assert refresh(server, model) == ["sub/model.safetensors (written to)"]


def test_verify_names_a_file_that_is_absent_or_of_another_size_without_a_sum(server: Server, model: Model) -> None:
    (model.folder / "config.json").unlink()
    (model.folder / "sub/model.safetensors").write_bytes(b"short")
    assert [(file["what"], file["seen"]) for file in verify(server, model).wrong] == [
        ("config.json", "absent"),
        ("sub/model.safetensors", "5 bytes"),
    ]


def test_a_manifest_that_is_not_the_recorded_one_proves_no_file(server: Server, model: Model) -> None:
    """An attacker who changes a file may change its entry as well: then only the hub can prove the files."""
    flipped = model.flip("config.json")
    manifest = json.loads(model.manifest.read_text())
    manifest["files"]["config.json"]["sha256"] = flipped
    model.manifest.write_text(json.dumps(manifest))
    assert [file["what"] for file in verify(server, model).wrong] == ["manifest.json"]
    assert refresh(server, model) == ["config.json (written to)", "sub/model.safetensors (written to)"]


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"../a": {"size": 1, "sha256": "0"}}}', '{"files": {"a": {}}}'])
def test_verify_names_an_unusable_manifest(server: Server, model: Model, text: str) -> None:
    model.manifest.write_text(text)
    comparison = verify(server, model)
    assert (comparison.files, [file["what"] for file in comparison.wrong]) == (0, ["manifest.json"])


def test_verify_names_a_container_of_another_image(
    server: Server, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "docker", '[ "$4" = glm-0 ] && echo sha256:aa')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert verify(server, model, **{"glm-0": "sha256:aa", "glm-1": "sha256:bb"}).wrong == [
        {"what": "container glm-1", "expected": "image sha256:bb", "seen": "absent"}
    ]


def test_verify_reports_progress_in_bytes(server: Server, model: Model) -> None:
    progress: list[tuple[int, int]] = []
    weights = verify_weights.RecordedWeights(server.target, str(model.manifest), model.recorded, {})
    verify_weights.verify(weights, lambda *numbers: progress.append(numbers))
    assert progress[-1] == (3_000_002, 3_000_002)


@pytest.mark.slow
def test_a_disk_that_hangs_ends_with_a_message(server: Server, model: Model) -> None:
    """A pipe without a writer blocks its reader, as a file on a disk that hangs."""
    pipe = model.folder / "hangs"
    os.mkfifo(pipe)
    model.manifest.write_text(json.dumps({"files": {"hangs": {"size": 0, "sha256": "0" * 64}}}))
    weights = verify_weights.RecordedWeights(server.target, str(model.manifest), model.sum(model.manifest), {})
    try:
        with pytest.raises(errors.CommandFailed, match=r"no output for 3 s"):
            verify_weights.verify(weights, lambda done, total: None, silence=3)
    finally:
        with pipe.open("w"):  # ends the process on the machine
            pass
