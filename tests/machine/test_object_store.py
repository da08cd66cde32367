"""Backups in a real object store: each comes back byte for byte, none is replaced, a stack is restored from there; Pulumi keeps its states there, too.

The store is VersityGW on this machine's loopback. The stack prod is deployed with the stand-in plugin.
"""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fleet.cli import object_store
from tests.support import s3_server
from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import FLAG, Fleet, environment_of, pulumi, stand_in

pytestmark = [pytest.mark.exhaustive, pytest.mark.needs("go", "pulumi"), pytest.mark.timeout(900)]
PLACE = f"s3://{s3_server.BUCKET}/backups"
UP = ("up", "--yes", "--skip-preview")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """The folder of an object store that runs; its clients' environment is this process's."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch, s3_server.running(folder) as environment:
        for name, value in environment.items():
            patch.setenv(name, value)
        environment_of.cache_clear()
        yield folder / "buckets" / s3_server.BUCKET
        environment_of.cache_clear()


def backup_file(folder: pathlib.Path, stamp: str, content: bytes = b"backup") -> pathlib.Path:
    file = folder / f"glm-fleet-prod-{stamp}.tar.gz"
    file.write_bytes(content)
    return file


def message(arguments: tuple[str, ...], **environment: str) -> str:
    """Return the error of a command of object_store.py."""
    command = [sys.executable, "-m", "fleet.cli.object_store", *arguments]
    run = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    return expect_failure(run, 1)


def test_a_backup_comes_back_byte_for_byte_and_is_never_replaced(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    content = os.urandom(3 << 20)
    file = backup_file(tmp_path, "20261130-100000", content)
    url = object_store.put(file, PLACE)
    assert url == f"{PLACE}/{file.name}"
    object_store.get(url, tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == content
    file.write_bytes(b"another")
    assert "PreconditionFailed" in message(("put", str(file), PLACE))
    object_store.get(url, tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == content


def test_without_a_name_the_message_lists_the_newest(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for stamp in ("20250101-000000", "20260101-000000"):
        object_store.put(backup_file(tmp_path, stamp), f"{PLACE}/more")
    listed = message(("get", f"{PLACE}/more", str(tmp_path / "there")))
    assert listed.index("prod-20260101") < listed.index("prod-20250101")


@pytest.mark.parametrize(
    ("place", "environment", "seen"),
    [
        ("s3://nothing/here", {}, "the store answers NoSuchBucket"),
        (PLACE, {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the store answers SignatureDoesNotMatch"),
        (PLACE, {"AWS_ACCESS_KEY_ID": "nobody"}, "the store answers XAdminUserNotFound"),
        (
            PLACE,
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            "put s3://fleet/backups/glm-fleet-prod-20200101-000000.tar.gz: ",
        ),
        ("s3://../..", {}, "this is no place in an object store"),
    ],
)
def test_a_store_that_refuses_is_named_with_its_reason(
    store: pathlib.Path, tmp_path: pathlib.Path, place: str, environment: dict[str, str], seen: str
) -> None:
    text = message(("put", str(backup_file(tmp_path, "20200101-000000")), place), **environment)
    assert seen in text and "secret-of" not in text


def script(project: pathlib.Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bootstrap/ on a project."""
    environment = {**os.environ, "FLEET_STATE": str(project / "state")}
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def test_a_stack_is_restored_from_the_store(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "first").mkdir()
    fleet = Fleet(tmp_path / "first")
    expect_success(fleet.run(*UP))
    output = expect_success(script(fleet.project, "bootstrap/backup.sh", "prod", PLACE))
    (name,) = {path.name for path in (store / "backups").glob("glm-fleet-prod-*") if path.stat().st_size > 100} & {
        word.rpartition("/")[2].rstrip(":") for word in output.split()
    }
    assert f"make restore FILE={PLACE}/{name} restores it" in output
    assert not list((fleet.project / "state" / "backups").glob("*.tar.gz")), "no copy stays here"
    (tmp_path / "clone").mkdir()
    clone = stand_in(tmp_path / "clone")
    for kept in ("machines.json", "passphrase"):
        shutil.copy(fleet.project / "state" / kept, clone / "state")
    expect_success(script(clone, "bootstrap/restore.sh", f"{PLACE}/{name}"))
    expect_success(pulumi(clone, "preview", "-s", "prod", "--expect-no-changes"))


def test_a_backup_stays_here_when_the_store_refuses_it(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    fleet = Fleet(tmp_path)
    expect_success(fleet.run(*UP))
    output = expect_failure(script(fleet.project, "bootstrap/backup.sh", "prod", "s3://nothing/here"), 1)
    (kept,) = (fleet.project / "state" / "backups").glob("*.tar.gz")
    assert f"the backup is only here: {kept}" in output and "NoSuchBucket" in output


def test_a_backend_in_the_store_outlives_the_controller_with_its_good_states(
    store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = f"endpoint={os.environ['AWS_ENDPOINT_URL']}&use_path_style=true"
    monkeypatch.setenv("FLEET_BACKEND", f"s3://{s3_server.BUCKET}?{query}")
    environment_of.cache_clear()
    (tmp_path / "first").mkdir()
    fleet = Fleet(tmp_path / "first")
    expect_success(fleet.run(*UP))
    fleet.set(FLAG, "32768")
    expect_success(fleet.run(*UP))
    shutil.rmtree(fleet.project / "state" / "backend")
    assert "max-model-len: 65536" in expect_success(fleet.verb("rollback", "--yes"))
    assert (store / ".pulumi" / "stacks" / "glm-fleet" / "prod.json").is_file()
    environment_of.cache_clear()
