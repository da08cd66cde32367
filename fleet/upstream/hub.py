"""Resolves a branch or tag of a model repository to its commit, by the hub's API. Sends no token. Called by `fleet.cli.pin`."""

import re
import urllib.parse

from fleet import errors
from fleet.upstream import bounded

COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
WRITE = "write the 40 hex digits that the hub shows for the commit into the stack file"


def commit(endpoint: str, repository: str, revision: str) -> str:
    """Return the 40 hex digits of the commit. Raises FleetError: no such repository or revision, no access, an answer of a wrong form."""
    doing = f"look for revision {revision} of {repository}"
    where = bounded.host(endpoint)
    if not REPOSITORY.fullmatch(repository) or bounded.origin(endpoint)[0] not in ("http", "https"):
        raise errors.FleetError(
            doing=doing,
            seen=f"weights_endpoint is {endpoint!r}, weights_repository {repository!r}",
            wanted="https://HOST and ORGANISATION/NAME",
        )
    if not REVISION.fullmatch(revision):
        raise bounded.error(doing, "no name of a branch or of a tag", "BRANCH or TAG", WRITE)
    url = f"{endpoint.rstrip('/')}/api/models/{repository}/revision/{urllib.parse.quote(revision, safe='')}"
    answer = bounded.ask(doing, "GET", url, {"Accept": "application/json"})
    if answer.status in (401, 403):
        seen = f"{answer.status} from {where}: it shows this repository to nobody without a token"
        raise bounded.error(doing, seen, "a public one", WRITE)
    if answer.status == 404:
        seen, wanted = f"{where} has no such repository, or no such revision of it", "a branch or a tag that exists"
        raise bounded.error(doing, seen, wanted, "look at its branches and tags")
    if answer.status != 200:
        seen = f"{answer.status} from {where}"
        raise bounded.error(doing, seen, "the commit", f"try again, or {WRITE}")
    body = answer.json()
    sha = body.get("sha") if isinstance(body, dict) else None
    if not isinstance(sha, str) or not COMMIT.fullmatch(sha):
        answers = f"{where} answers with the commit {bounded.printable(str(sha))!r}"
        seen = answers if sha else f"{where} names no commit"
        raise bounded.error(doing, seen, "40 hex digits", WRITE)
    return sha
