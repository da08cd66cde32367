"""The commit that a branch or a tag of a git repository names now: `git ls-remote`, with this machine's own git configuration.

Needs git. Runs no transport but https, http and ssh, follows no redirect, asks nobody for a password. Called by `fleet.cli.pin`.
"""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator

from fleet import errors
from fleet.upstream import bounded

SECONDS = 60.0
BYTES = 64 << 10  # three lines are asked for
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
LINE = re.compile(r"([0-9a-f]{40})\t(refs/[^\s]+)")
URL = re.compile(r"(https?|ssh)://[^\s]+|[\w.-]+@[\w.-]+:[^\s]+")
OPTIONS = (
    *("-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.http.allow=always"),
    *("-c", "protocol.ssh.allow=always", "-c", "http.followRedirects=false"),
)
WRITE = "write the 40 hex digits of the commit into the stack file"


def commit(repository: str, ref: str) -> str:
    """Return the 40 hex digits of the commit; of an annotated tag, those of the commit that it marks.

    Raises FleetError: no such branch or tag, both of this name, a server that does not answer as git does.
    """
    doing = f"look for {ref} in {repository}"
    if not REF.fullmatch(ref) or ".." in ref or not URL.fullmatch(repository):
        seen = "no name of a branch or of a tag, or no URL of a git server"
        raise errors.FleetError(doing=doing, seen=seen, wanted="BRANCH or TAG, and https://…", next=WRITE)
    names = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    found = dict(_lines(doing, _run(doing, repository, [*names, *(f"{name}^{{}}" for name in names)]), names))
    if not found:
        todo = f"`git ls-remote {repository}` lists them; a short commit cannot be looked up: {WRITE}"
        raise errors.FleetError(doing=doing, seen="no such branch, no such tag", wanted="one of them", next=todo)
    if len(found) > 1:
        seen = f"a branch and a tag have this name: {', '.join(f'{name} is {one}' for name, one in found.items())}"
        raise errors.FleetError(doing=doing, seen=seen, wanted="one of them", next=f"write {' or '.join(found)}")
    return next(iter(found.values()))


def _lines(doing: str, text: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, commit) of each that was asked for; what a tag marks comes after the tag itself, and takes its place."""
    for line in text.splitlines():
        parts = LINE.fullmatch(line)
        name = parts[2].removesuffix("^{}") if parts else ""
        if not parts or name not in names:
            seen = f"the server answers {bounded.printable(line)!r}"
            raise errors.FleetError(doing=doing, seen=seen, wanted="COMMIT REF, as was asked for", next=WRITE)
        yield name, parts[1]


def _run(doing: str, repository: str, names: list[str]) -> str:
    """Return what `git ls-remote` prints; its helpers end with it."""
    command = ["git", *OPTIONS, "ls-remote", "--quiet", "--", repository, *names]
    silent = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C"}
    silent["GIT_SSH_COMMAND"] = os.environ.get("GIT_SSH_COMMAND") or "ssh -o BatchMode=yes"
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as printed:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=said,
                env={**os.environ, **silent},
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise errors.FleetError(doing=doing, seen="this machine has no git", wanted="git on PATH") from error
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the helpers that it started: they are a group of their own
            process.wait()
            seen = f"no answer within {SECONDS:.0f} s"
            raise errors.FleetError(
                doing=doing, seen=seen, wanted="a git server", next=f"try again, or {WRITE}"
            ) from None
        if code:
            said.seek(0)
            seen = f"git ends with {code}: {_last(said.read(BYTES))}"
            raise errors.FleetError(doing=doing, seen=seen, wanted="the server's branches and tags", next=WRITE)
        printed.seek(0)
        text = printed.read(BYTES + 1)
    if len(text) > BYTES:
        seen = f"the server answers with more than {BYTES >> 10} KiB"
        raise errors.FleetError(doing=doing, seen=seen, wanted=f"a line for each of {', '.join(names)}", next=WRITE)
    return text.decode("utf-8", "replace")


def _last(said: bytes) -> str:
    """Return the line that says why, in printable characters."""
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal: ")]
    return bounded.printable((fatal or lines or ["it says nothing"])[-1], 200)
