"""The model's folder on a node (fleet/weights_fetcher/model.py): what counts as ready, what root accepts, and who owns it.

A program that reads a hub's answers fills that folder: its content may be anything. No network beyond 127.0.0.1.
"""

import contextlib
import json
import os
import pathlib
import socket
import stat
import threading
from collections.abc import Callable, Iterator

import pytest

from fleet.weights_fetcher import fetch
from fleet.weights_fetcher import hub as hub_client
from fleet.weights_fetcher import model as model_folder
from tests.support import weights_hub
from tests.support.weights_hub import BIG, SMALL, Hub, Node

Model, Wrong = model_folder.Model, model_folder.Wrong
ME = (os.getuid(), os.getgid())


@pytest.fixture
def hub() -> Iterator[Hub]:
    with weights_hub.serve() as server:
        yield server


@pytest.fixture
def node(tmp_path: pathlib.Path, hub: Hub) -> Node:
    return Node(tmp_path, hub)


@pytest.fixture
def model(node: Node) -> "Model":
    """A model that was fetched, in this process."""
    model = Model(node.dir, weights_hub.REPOSITORY, weights_hub.REVISION)
    hub = hub_client.Hub(node.hub.url, weights_hub.REPOSITORY, weights_hub.REVISION, "")
    model.prepare(*ME)
    files = fetch.files_to_fetch(hub.tree(), {}, ["*.md"])
    fetch.fetch(model, hub, files, parallel=2, limit=2, stop=threading.Event())
    model.finish({}, ["*.md"], *ME)
    return model


def modes(folder: pathlib.Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): oct(stat.S_IMODE(path.lstat().st_mode)) for path in folder.rglob("*")}


def test_only_the_owner_may_write_and_only_the_group_may_read(model: "Model") -> None:
    assert modes(model.path) == {
        BIG: "0o640",
        SMALL: "0o640",
        "sub": "0o750",
        "sub/tokenizer.json": "0o640",
        "manifest.json": "0o644",
    }
    assert stat.S_IMODE(model.path.stat().st_mode) == 0o750


def test_only_the_fetching_user_can_read_an_incoming_model(node: Node, hub: Hub) -> None:
    hub.served[BIG] = bytes(10)
    node.fetch()
    incoming = modes(node.part.parent)
    assert incoming.pop("sub") == "0o700" and {*incoming.values()} == {"0o600"}
    assert stat.S_IMODE(node.part.parent.stat().st_mode) == 0o700


def test_a_mode_that_lets_others_write_is_not_owned_and_own_restores_it(model: "Model") -> None:
    (model.path / SMALL).chmod(0o666)
    assert not model.owned(*ME)
    model.own(*ME)
    assert model.owned(*ME) and modes(model.path)[SMALL] == "0o640"


def test_a_sum_that_is_added_later_is_compared_with_the_model(node: Node, model: "Model") -> None:
    node.name(**{SMALL: "0" * 64})
    assert node.check()["why"] == f"{SMALL} was verified against another sha256"
    node.name(**{"more.json": "0" * 64})
    assert node.check()["why"] == "more.json is in weights_manifest, and missing"
    node.sums.write_text(json.dumps({BIG: json.loads(node.name() or node.sums.read_text())[BIG]}))
    assert node.check()["why"] == f"{SMALL} is not in weights_manifest"
    node.name()
    assert node.check()["ready"]


def plant(path: pathlib.Path, kind: str) -> None:
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "folder":
        path.symlink_to("/etc", target_is_directory=True)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):  # a socket's name is short
            server.bind(path.name)
    else:
        path.write_text("x")


@pytest.mark.parametrize("kind", ["file", "link", "folder", "pipe", "socket"])
def test_a_foreign_file_in_the_model_is_reported_and_the_next_fetch_removes_it(
    node: Node, model: "Model", kind: str
) -> None:
    plant(model.path / "sub" / "planted", kind)
    assert node.check()["why"] == "sub/planted is not part of the model"
    assert node.fetch().returncode == 0
    assert node.check()["ready"] and not os.path.lexists(model.path / "sub" / "planted")
    assert pathlib.Path("/etc/passwd").stat().st_uid == 0


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_link_or_pipe_in_place_of_a_file_is_no_file_of_the_model(node: Node, model: "Model", kind: str) -> None:
    (model.path / SMALL).unlink()
    plant(model.path / SMALL, kind)
    assert node.check()["why"] == f"{SMALL} is missing or was changed"
    assert node.fetch().returncode == 0 and (model.path / SMALL).read_bytes() == node.hub.files[SMALL]


@pytest.mark.parametrize(
    "record",
    [
        *("", "[]", "null", "<html>", "[" * 100_000, '{"files": []}', '{"files": {}}'),
        '{"files": {"config.json": 3}}',
        '{"files": {"config.json": {"size": 1, "mtime_ns": 1}}}',
        '{"files": {"config.json": {"size": "1", "sha256": 4, "mtime_ns": null}}}',
        '{"files": {"../../../../etc/passwd": {"size": 1, "sha256": "%s", "mtime_ns": 1}}}' % ("0" * 64),
    ],
)
def test_a_record_of_another_form_is_no_model_and_the_next_fetch_repairs_it(
    node: Node, model: "Model", record: str
) -> None:
    model.path.joinpath("manifest.json").write_text(record)
    report = model.check({}, [])
    assert (report["ready"], report["why"], report["manifest"]) == (False, "no verified model", "")
    if record in ("[]", '{"files": []}'):
        assert node.fetch().returncode == 0 and node.check()["ready"]


@pytest.mark.parametrize(
    "sums", ["", "[]", "null", '{"a": 3}', '{"a": "xyz"}', '{"/etc/x": "%s"}' % ("0" * 64), "[" * 100_000]
)
def test_a_list_of_sums_of_another_form_is_refused(node: Node, model: "Model", sums: str) -> None:
    """An empty list would accept everything."""
    node.sums.write_text(sums)
    assert not node.check()["ready"]
    with pytest.raises(Wrong):
        model_folder.read_sums(node.sums)


def test_without_its_list_of_sums_nothing_is_fetched(node: Node, hub: Hub) -> None:
    node.sums.unlink()
    assert "No such file" in node.fetch().stdout
    assert not node.model.exists()


def finish(model: "Model", change: Callable[[pathlib.Path], None]) -> str:
    """Return root's message about an incoming folder that was complete, and has this change."""
    model.prepare(*ME)
    for name in (BIG, SMALL, "sub/tokenizer.json"):
        (model.incoming / name).parent.mkdir(exist_ok=True)
        (model.incoming / name).write_bytes((model.path / name).read_bytes())
    (model.incoming / "manifest.json").write_bytes(model.record(model.path))
    change(model.incoming)
    try:
        model.finish({}, [], *ME)
    except Wrong as problem:
        return str(problem)
    return ""


def test_root_follows_no_link_of_an_incoming_folder(model: "Model", tmp_path: pathlib.Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tokenizer.json").write_text("{}")
    (elsewhere / "tokenizer.json").chmod(0o604)

    def link_folder(folder: pathlib.Path) -> None:
        (folder / "sub" / "tokenizer.json").unlink()
        (folder / "sub").rmdir()
        (folder / "sub").symlink_to(elsewhere)
        (folder / "more").symlink_to(elsewhere)

    message = finish(model, link_folder)
    assert message == "" and not (model.path / "more").exists() and not (model.path / "sub").is_symlink()
    assert stat.S_IMODE((elsewhere / "tokenizer.json").stat().st_mode) == 0o604


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_root_refuses_a_link_or_pipe_in_place_of_a_file(model: "Model", kind: str) -> None:
    def change(folder: pathlib.Path) -> None:
        (folder / SMALL).unlink()
        plant(folder / SMALL, kind)

    assert f"{SMALL} is not the file that the record has" in finish(model, change)


def test_root_refuses_a_file_with_a_second_name(model: "Model", tmp_path: pathlib.Path) -> None:
    message = finish(model, lambda folder: os.link(folder / SMALL, tmp_path / "second"))
    assert f"{SMALL} has a second name" in message


@pytest.mark.parametrize("record", ["[]", '{"files": []}', '{"files": {"../x": {}}}'])
def test_root_refuses_a_record_of_another_form(model: "Model", record: str) -> None:
    message = finish(model, lambda folder: (folder / "manifest.json").write_text(record) and None)
    assert message.endswith("no record of a fetch")


def test_root_compares_an_incoming_folder_with_weights_manifest(model: "Model") -> None:
    model.prepare(*ME)
    (model.incoming / "manifest.json").write_bytes(model.record(model.path))
    with pytest.raises(Wrong, match="weights_manifest does not name"):
        model.finish({BIG: "0" * 64}, [], *ME)
    right = {name: entry.sha256 for name, entry in model_folder.read_record(model.record(model.path)).items()}
    with pytest.raises(Wrong, match=f"{SMALL}: sha256 .*, weights_manifest says 0000"):
        model.finish({**right, SMALL: "0" * 64}, [], *ME)


def test_an_incoming_folder_that_is_a_link_is_replaced(model: "Model", tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    model.incoming.symlink_to(tmp_path / "elsewhere")
    model.prepare(*ME)
    assert not model.incoming.is_symlink()
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o755


def test_a_folder_that_the_fetching_user_cannot_pass_is_named(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(Wrong, match=r"user 10002 \(weights_fetcher\) cannot enter it$") as caught:
        Model(tmp_path, weights_hub.REPOSITORY, weights_hub.REVISION).prepare(10002, ME[1])
    assert caught.value.remedy.startswith("`chmod o+x /")
