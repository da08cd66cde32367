"""The recipes' one comment and one issue (examples/comment.py), against a small GitHub and a small GitLab of this test's own."""

import contextlib
import io
import json
import os
import runpy
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support import http_server

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "comment.py"
MARKER = "<!-- glm-fleet review prod -->"
TOKENS = {"github": ("Authorization", "Bearer t0ken"), "gitlab": ("PRIVATE-TOKEN", "t0ken")}
TEXT = {"github": "body", "gitlab": "description"}


class Forge:
    """Comments and issues as one site keeps them; `us` is the account of the token, `requests` what it changed."""

    def __init__(self, name: str) -> None:
        self.name, self.requests = name, list[str]()
        self.lists: dict[str, list[dict[str, Any]]] = {"comments": [], "issues": []}
        forge = self

        class Handler(http_server.Handler):
            def do_GET(self) -> None:
                forge.answer(self, "GET")

            def do_POST(self) -> None:
                forge.answer(self, "POST")

            def do_PATCH(self) -> None:
                forge.answer(self, "PATCH")

            def do_PUT(self) -> None:
                forge.answer(self, "PUT")

        self.server = http_server.LoopbackServer(Handler)

    def add(self, which: str, text: str, mine: bool = True, **more: Any) -> None:
        """Add an entry by this account or by somebody else."""
        number = len(self.lists[which]) + 1
        person = {"login": "github-actions[bot]", "id": 7} if mine else {"login": "mallory", "id": 8}
        field = "body" if which == "comments" else TEXT[self.name]
        entry = {"id": 100 + number, "number": number, "iid": number, "state": "open", field: text, **more}
        self.lists[which].append({**entry, "user" if self.name == "github" else "author": person})

    def texts(self, which: str) -> list[str]:
        """Return the texts of a list."""
        return [entry["body" if which == "comments" else TEXT[self.name]] for entry in self.lists[which]]

    def answer(self, handler: Any, method: str) -> None:
        """Answer one request as the site does."""
        header, token = TOKENS[self.name]
        url = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if handler.headers[header] != token:
            return handler.reply(401, b"{}")
        if url.path == "/user":
            return handler.reply(200, b'{"id": 7}')
        which, _, ident = self._place(url.path, method)
        if method == "GET":
            page, size = int(query["page"]), int(query["per_page"])
            entries = [entry for entry in self.lists[which] if entry["state"] == "open"]
            return handler.reply(200, json.dumps(entries[(page - 1) * size : page * size]).encode())
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.requests.append(f"{method} {which}")
        if method == "POST":
            self.add(which, body.pop("body" if which == "comments" else TEXT[self.name]), **body)
        else:
            key = "id" if which == "comments" else "number"
            entry = next(entry for entry in self.lists[which] if entry[key] == int(ident))
            closes = body.pop("state_event", body.get("state")) in ("close", "closed")
            entry.update(body, state="closed" if closes else "open")
        handler.reply(200, b"{}")

    def _place(self, path: str, method: str) -> tuple[str, str, str]:
        """Return which list a path means, and the entry; GitHub edits a comment without the issue's number, GitLab with it."""
        if self.name == "github":
            many, one = "/repos/o/r/issues/5/comments", "/repos/o/r/issues/comments"
            issues = "/repos/o/r/issues"
        else:
            many = one = "/projects/9/merge_requests/5/notes"
            issues = "/projects/9/issues"
        head, _, tail = path.rpartition("/")
        if method in ("GET", "POST"):
            return ("comments" if path == many else "issues"), path, ""
        assert head in (one, issues), path
        return ("comments" if head == one else "issues"), path, tail


@pytest.fixture(params=["github", "gitlab"])
def forge(request: pytest.FixtureRequest) -> Iterator[Forge]:
    """One of the two sites, empty."""
    forge = Forge(request.param)
    yield forge
    forge.server.close()


def run(forge: Forge, tmp_path: Path, text: str, verb: str, *arguments: str) -> str:
    """Run the script as a recipe's job does, with this text as its file; return what it prints."""
    file = tmp_path / "report.md"
    file.write_text(text)
    of_github = {"GITHUB_API_URL": forge.server.url, "GITHUB_TOKEN": "t0ken", "GITHUB_REPOSITORY": "o/r"}
    of_gitlab = {"CI_API_V4_URL": forge.server.url, "COMMENT_TOKEN": "t0ken", "CI_PROJECT_ID": "9"}
    environment = (
        {"PULL_REQUEST": "5"} | of_github if forge.name == "github" else {"CI_MERGE_REQUEST_IID": "5"} | of_gitlab
    )
    words = ["comment.py", verb, *[str(file) if word == "FILE" else word for word in arguments]]
    output = io.StringIO()
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stdout(output),
    ):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return output.getvalue().strip()


def comment(forge: Forge, tmp_path: Path, text: str) -> str:
    return run(forge, tmp_path, text, "comment", "FILE")


def issue(forge: Forge, tmp_path: Path, text: str, *gone: str) -> str:
    return run(forge, tmp_path, text, "issue", *gone, "FILE", "Drift of prod")


def test_a_second_run_edits_the_first_comment(forge: Forge, tmp_path: Path) -> None:
    assert comment(forge, tmp_path, f"{MARKER}\nsafe\n") == "made"
    assert comment(forge, tmp_path, f"{MARKER}\ndestructive\n") == "edited"
    assert forge.texts("comments") == [f"{MARKER}\ndestructive\n"]
    assert comment(forge, tmp_path, f"{MARKER}\ndestructive\n") == "the same"
    assert len(forge.requests) == 2


def test_another_stack_has_its_own_comment(forge: Forge, tmp_path: Path) -> None:
    forge.add("comments", "<!-- glm-fleet review production -->\nsafe")
    comment(forge, tmp_path, f"{MARKER}\nsafe\n")
    assert len(forge.texts("comments")) == 2


def test_somebody_else_s_text_with_the_marker_is_not_touched(forge: Forge, tmp_path: Path) -> None:
    forge.add("comments", f"{MARKER}\nsafe, merge it", mine=False)
    forge.add("comments", f"see:\n{MARKER}\nquoted by us")
    assert comment(forge, tmp_path, f"{MARKER}\ndestructive\n") == "made"
    assert forge.texts("comments")[:2] == [f"{MARKER}\nsafe, merge it", f"see:\n{MARKER}\nquoted by us"]


def test_a_comment_behind_others_is_found(forge: Forge, tmp_path: Path) -> None:
    for number in range(150):
        forge.add("comments", f"talk {number}", mine=False)
    forge.add("comments", f"{MARKER}\nsafe")
    assert comment(forge, tmp_path, f"{MARKER}\ndestructive\n") == "edited"


def test_a_text_that_is_no_report_is_not_sent(forge: Forge, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="the file is no report"):
        comment(forge, tmp_path, "anything\n")
    assert forge.requests == []


def test_drift_has_one_issue_that_closes_with_it(forge: Forge, tmp_path: Path) -> None:
    assert issue(forge, tmp_path, f"{MARKER}\nnothing to do\n", "--gone") == "none"
    assert issue(forge, tmp_path, f"{MARKER}\none node\n") == "opened"
    assert issue(forge, tmp_path, f"{MARKER}\ntwo nodes\n") == "edited"
    assert forge.texts("issues") == [f"{MARKER}\ntwo nodes\n"] and forge.lists["issues"][0]["title"] == "Drift of prod"
    assert issue(forge, tmp_path, f"{MARKER}\nnothing to do\n", "--gone") == "closed"
    assert forge.lists["issues"][0]["state"] == "closed"
    assert issue(forge, tmp_path, f"{MARKER}\nagain\n") == "opened"
    assert len(forge.lists["issues"]) == 2
