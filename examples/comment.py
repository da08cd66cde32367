"""Keeps one comment of `fleet review` at a pull request, or one issue about drift: makes it, edits it, closes the issue when the drift is gone.

Takes a report as data: `fleet review --format markdown`, whose first line is the marker by which it finds its own; another account's text with the
same marker is not touched. Needs Python alone, so that the job with the right to write runs nothing else. Called by the recipes beside it:
    python3 comment.py comment FILE                  # at the pull request that the environment names
    python3 comment.py issue [--gone] FILE TITLE    # about drift; `--gone` closes it
"""

import argparse
import json
import os
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARKER = re.compile(r"<!-- glm-fleet review [\w./-]+ -->")
PAGE = 100
TIMEOUT = 30  # seconds of one request


class Site:
    """What GitHub and GitLab have in common: JSON over HTTP, lists in pages, a text with its author."""

    edits = "PATCH"

    def __init__(self, api: str, headers: Mapping[str, str]) -> None:
        self._api, self._headers = api.rstrip("/"), headers

    def ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        """Return what the site answers. Raises HTTPError."""
        headers = {"Content-Type": "application/json", "User-Agent": "glm-fleet", **self._headers}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._api + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)

    def own(self, path: str, field: str, marker: str) -> Mapping[str, Any] | None:
        """Return the first entry of a list that this account wrote with the marker."""
        page = 1
        while True:
            entries = self.ask("GET", f"{path}{'&' if '?' in path else '?'}per_page={PAGE}&page={page}")
            for entry in entries:
                if str(entry.get(field) or "").splitlines()[:1] == [marker] and self.is_own(entry):
                    return dict(entry)
            if len(entries) < PAGE:
                return None
            page += 1

    def is_own(self, entry: Mapping[str, Any]) -> bool:
        """Return whether this account wrote the entry."""
        raise NotImplementedError


class GitHub(Site):
    """GitHub, as its Actions describe it. What a workflow's own token writes is by `github-actions[bot]`."""

    issue_text, closed = "body", {"state": "closed"}

    def __init__(self, environment: Mapping[str, str]) -> None:
        token = {"Authorization": f"Bearer {environment['GITHUB_TOKEN']}", "Accept": "application/vnd.github+json"}
        super().__init__(environment["GITHUB_API_URL"], token)
        self.author = environment.get("COMMENT_AUTHOR", "github-actions[bot]")
        self.issues = f"/repos/{environment['GITHUB_REPOSITORY']}/issues"
        self.open_issues = f"{self.issues}?state=open"
        self.comments = f"{self.issues}/{environment.get('PULL_REQUEST', '')}/comments"
        self.comment = f"{self.issues}/comments"
        self.issue_number = "number"

    def is_own(self, entry: Mapping[str, Any]) -> bool:
        """Compare the login: `[bot]` is in no user's."""
        return bool(entry["user"] and entry["user"]["login"] == self.author)


class GitLab(Site):
    """GitLab, as its CI describes it. COMMENT_TOKEN is a project's access token with the scope `api`; its bot is the author."""

    edits, issue_text, closed = "PUT", "description", {"state_event": "close"}

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment["CI_API_V4_URL"], {"PRIVATE-TOKEN": environment["COMMENT_TOKEN"]})
        project = f"/projects/{environment['CI_PROJECT_ID']}"
        self.author = int(self.ask("GET", "/user")["id"])
        self.issues = f"{project}/issues"
        self.open_issues = f"{self.issues}?state=opened"
        self.comments = f"{project}/merge_requests/{environment.get('CI_MERGE_REQUEST_IID', '')}/notes"
        self.comment = self.comments
        self.issue_number = "iid"

    def is_own(self, entry: Mapping[str, Any]) -> bool:
        """Compare the account's number."""
        return bool(entry["author"]["id"] == self.author)


def keep_comment(site: GitHub | GitLab, text: str) -> str:
    """Edit the account's comment with the text's marker, or make it; return which."""
    own = site.own(site.comments, "body", _marker(text))
    if own is None:
        site.ask("POST", site.comments, {"body": text})
        return "made"
    if own["body"] == text.rstrip("\n") or own["body"] == text:
        return "the same"
    site.ask(site.edits, f"{site.comment}/{own['id']}", {"body": text})
    return "edited"


def keep_issue(site: GitHub | GitLab, text: str, title: str, drifted: bool) -> str:
    """Open the account's issue with the text's marker, edit it, or close it when nothing has drifted; return which."""
    own = site.own(site.open_issues, site.issue_text, _marker(text))
    if own is None and not drifted:
        return "none"
    content = {"title": title, site.issue_text: text}
    if own is None:
        site.ask("POST", site.issues, content)
        return "opened"
    place = f"{site.issues}/{own[site.issue_number]}"
    site.ask(site.edits, place, content if drifted else {**content, **site.closed})
    return "edited" if drifted else "closed"


def _marker(text: str) -> str:
    """Return the first line of a report, which is its marker; end the program for any other text."""
    first = text.partition("\n")[0]
    if not MARKER.fullmatch(first):
        sys.exit(
            "comment.py: the file is no report: it does not begin with the marker of `fleet review --format markdown`"
        )
    return first


def main() -> None:
    """Read the command line and the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("comment").add_argument("file", type=Path)
    issue = verbs.add_parser("issue")
    issue.add_argument("file", type=Path)
    issue.add_argument("title")
    issue.add_argument("--gone", action="store_true", help="nothing has drifted: close it")
    arguments = parser.parse_args()
    text = arguments.file.read_text()
    site = GitLab(os.environ) if "CI_API_V4_URL" in os.environ else GitHub(os.environ)
    if arguments.verb == "comment":
        print(keep_comment(site, text))
    else:
        print(keep_issue(site, text, arguments.title, not arguments.gone))


if __name__ == "__main__":
    main()
