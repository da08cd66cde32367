"""`git ls-remote` resolves a branch or a tag of a git repository over HTTP; other transports and redirects are refused."""

import functools
import http.server
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import errors
from fleet.upstream import git
from tests.support.http_server import LoopbackServer
from tests.support.programs import write_program
from tests.support.upstream_servers import Plain


def run(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=n@example", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A repository over HTTP, and its folder: branch main, tag v1 (annotated), both on the first commit; branch and tag `both`."""
    folder = tmp_path / "x.git"
    folder.mkdir()
    run(folder, "init", "-q", "-b", "main")
    run(folder, "commit", "-q", "--allow-empty", "-m", "one")
    run(folder, "tag", "-a", "v1", "-m", "release")
    run(folder, "branch", "both")
    run(folder, "tag", "both")
    run(folder, "update-server-info")
    server = LoopbackServer(functools.partial(Quiet, directory=folder / ".git"))
    yield f"{server.url}/", folder
    server.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before all others on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize("ref", ["main", "v1", "refs/heads/main", "refs/tags/v1", "refs/heads/both"])
def test_a_branch_or_a_tag_resolves_to_its_commit(repository: tuple[str, Path], ref: str) -> None:
    url, folder = repository
    assert git.commit(url, ref) == run(folder, "rev-parse", "main")


def test_a_name_of_both_a_branch_and_a_tag_is_refused(repository: tuple[str, Path]) -> None:
    with pytest.raises(errors.FleetError, match="a branch and a tag have this name") as caught:
        git.commit(repository[0], "both")
    assert caught.value.next == "write refs/heads/both or refs/tags/both"


def test_a_name_that_does_not_exist_and_a_short_commit_are_reported(repository: tuple[str, Path]) -> None:
    url, folder = repository
    for ref in ("v2", run(folder, "rev-parse", "--short", "main")):
        with pytest.raises(errors.FleetError, match="no such branch, no such tag"):
            git.commit(url, ref)


@pytest.mark.parametrize(
    ("url", "ref"),
    [
        ("--upload-pack=touch /tmp/x", "main"),
        ("ext::sh -c id", "main"),
        ("file:///tmp", "main"),
        ("/tmp", "main"),
        ("https://git.example/x", "--exec=x"),
        ("https://git.example/x", "*"),
        ("https://git.example/x", "a..b"),
        ("https://git.example/x", "main\n"),
    ],
)
def test_what_is_no_name_or_no_server_causes_no_request(
    url: str, ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    with pytest.raises(errors.FleetError, match="no name of a branch or of a tag, or no URL of a git server"):
        git.commit(url, ref)


def test_a_redirect_is_not_followed(repository: tuple[str, Path]) -> None:
    server = Plain()
    server.answers["/x.git/info/refs?service=git-upload-pack"] = (301, {"Location": f"{repository[0]}info/refs"}, b"")
    with pytest.raises(errors.FleetError, match="git ends with 128: "):
        git.commit(f"{server.url}/x.git", "main")
    server.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("not a line\n", "the server answers 'not a line'"),
        (f"{'1' * 39}\trefs/heads/main\n", "the server answers"),
        (f"{'1' * 40}\trefs/heads/other\n", "the server answers"),
        ("x" * 70_000, "more than 64 KiB"),
    ],
)
def test_an_answer_of_another_form_is_refused(answer: str, message: str, path: Path) -> None:
    (path / "answer").write_text(answer)
    write_program(path / "git", f"cat {path}/answer")
    with pytest.raises(errors.FleetError, match=message) as caught:
        git.commit("https://git.example/x", "main")
    assert len(str(caught.value)) < 600


def test_a_request_to_a_silent_server_ends_in_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(path / "git", "sleep 60 & wait")
    monkeypatch.setattr(git, "SECONDS", 0.3)
    with pytest.raises(errors.FleetError, match="no answer within 0 s"):
        git.commit("https://git.example/x", "main")
