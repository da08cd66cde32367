"""Resolves a branch or tag of a git repository to its commit: `git ls-remote`, with this machine's git configuration.

Needs git. Allows only the transports https, http and ssh, follows no redirect, never asks for a password. Called by `fleet.cli.pin`.
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
BYTES = 64 << 10  # of the answer, which should have at most four lines
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
LINE = re.compile(r"([0-9a-f]{40})\t(refs/[^\s]+)")
URL = re.compile(r"(https?|ssh)://[^\s]+|[\w.-]+@[\w.-]+:[^\s]+")
OPTIONS = (
    *("-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.http.allow=always"),
    *("-c", "protocol.ssh.allow=always", "-c", "http.followRedirects=false"),
)
WRITE = "write the 40 hex digits of the commit into the stack file"


def commit(repository: str, ref: str) -> str:
    """Return the 40 hex digits of the commit; of an annotated tag, those of the commit that it points to.

    Raises FleetError: no such branch or tag, a branch and a tag of this name, an answer that is not git's.
    """
    doing = f"look for {ref} in {repository}"
    if not REF.fullmatch(ref) or ".." in ref or not URL.fullmatch(repository):
        seen = "no name of a branch or of a tag, or no URL of a git server"
        raise errors.FleetError(doing=doing, seen=seen, wanted="BRANCH or TAG, and https://…", next=WRITE)
    names = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    commits = dict(_lines(doing, _run(doing, repository, [*names, *(f"{name}^{{}}" for name in names)]), names))
    if not commits:
        todo = f"`git ls-remote {repository}` lists them; a short commit cannot be looked up: {WRITE}"
        raise errors.FleetError(doing=doing, seen="no such branch, no such tag", wanted="one of them", next=todo)
    if len(commits) > 1:
        both = ", ".join(f"{name} is {digits}" for name, digits in commits.items())
        seen = f"a branch and a tag have this name: {both}"
        raise errors.FleetError(doing=doing, seen=seen, wanted="one of them", next=f"write {' or '.join(commits)}")
    return next(iter(commits.values()))


def _lines(doing: str, text: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, commit) for each line of the answer. The line of an annotated tag's commit follows that of the tag, under the same name."""
    for line in text.splitlines():
        parts = LINE.fullmatch(line)
        name = parts[2].removesuffix("^{}") if parts else ""
        if not parts or name not in names:
            seen = f"the server answers {bounded.printable(line)!r}"
            raise errors.FleetError(doing=doing, seen=seen, wanted="COMMIT REF, as was asked for", next=WRITE)
        yield name, parts[1]


def _run(doing: str, repository: str, names: list[str]) -> str:
    """Return the output of `git ls-remote`. Raises FleetError: no git, no answer in time, exit code, answer too long."""
    command = ["git", *OPTIONS, "ls-remote", "--quiet", "--", repository, *names]
    no_prompts = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C"}
    no_prompts["GIT_SSH_COMMAND"] = os.environ.get("GIT_SSH_COMMAND") or "ssh -o BatchMode=yes"
    with tempfile.TemporaryFile() as stderr, tempfile.TemporaryFile() as stdout:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **no_prompts},
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise errors.FleetError(doing=doing, seen="this machine has no git", wanted="git on PATH") from error
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with its helpers: it is the leader of their process group
            process.wait()
            seen = f"no answer within {SECONDS:.0f} s"
            raise errors.FleetError(
                doing=doing, seen=seen, wanted="a git server", next=f"try again, or {WRITE}"
            ) from None
        if code:
            stderr.seek(0)
            seen = f"git ends with {code}: {_reason(stderr.read(BYTES))}"
            raise errors.FleetError(doing=doing, seen=seen, wanted="the server's branches and tags", next=WRITE)
        stdout.seek(0)
        text = stdout.read(BYTES + 1)
    if len(text) > BYTES:
        seen = f"the server answers with more than {BYTES >> 10} KiB"
        raise errors.FleetError(doing=doing, seen=seen, wanted=f"a line for each of {', '.join(names)}", next=WRITE)
    return text.decode("utf-8", "replace")


def _reason(stderr: bytes) -> str:
    """Return the line of git's messages that gives the reason, in printable characters."""
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal: ")]
    return bounded.printable((fatal or lines or ["it says nothing"])[-1], 200)
