"""Client of a model hub or its mirror: the list of a revision's files, and the bytes of each. Every answer is untrusted until checked here.

Decides which answers are final (Wrong) and which to retry (Later), where the token goes, and what an entry of the list may be.
Needs a hub that answers /api/models/R/tree/REV and /R/resolve/REV/FILE. Called by fetch.py and download.py.
"""

import dataclasses
import datetime
import email.utils
import http.client
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request

from .model import LARGEST, RECORD, SHA256, Wrong, name_problem, plain, read_json, whole

UTC = datetime.timezone.utc  # noqa: UP017 - a node may have Python 3.10
SILENCE = 60  # seconds without a byte of an answer
LONGEST_PAGE, MOST_PAGES, MOST_FILES = 32 << 20, 1000, 20_000
LONGEST_PAUSE = 300  # seconds, whatever a hub asks for
BLOB = re.compile(r"[0-9a-f]{40}")
NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel\s*=\s*"?next\b')
# Status codes to retry, and all from 500: timeout, too early, too many requests.
LATER = (408, 425, 429)

Origin = tuple[str, str, int]  # scheme, host, port


class Later(OSError):
    """The hub does not answer now. `pause`: the seconds that it asks to wait, 0 if it does not say."""

    def __init__(self, seen: str, pause: float = 0) -> None:
        super().__init__(seen)
        self.pause = pause


@dataclasses.dataclass(frozen=True)
class File:
    """One file by the hub's list and weights_manifest: size in bytes, `sha256` or, for a small file, git's blob id."""

    path: str
    size: int
    sha256: str
    blob: str


def read_file(entry: object) -> "File | None":
    """Return one entry of the hub's list, None if it is not a file. Raises Wrong for an entry that must not be used."""
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise Wrong(f"the hub's list has an entry of unknown form: {plain(entry, 60)}")
    if entry["type"] != "file":
        return None
    path, lfs = entry.get("path"), entry.get("lfs")
    if problem := name_problem(path):
        raise Wrong(f"the hub names a file that {problem}: {plain(path)}")
    if lfs is not None and not isinstance(lfs, dict):
        raise Wrong(f"{path}: the hub gives no checksum: {plain(lfs, 60)}")
    size, digest = (lfs.get("size"), lfs.get("oid")) if lfs else (entry.get("size"), entry.get("oid"))
    if not whole(size, LARGEST):
        raise Wrong(f"{path}: the hub gives no size: {plain(size, 60)}")
    if not isinstance(digest, str) or not (SHA256 if lfs else BLOB).fullmatch(digest):
        raise Wrong(f"{path}: the hub gives no checksum: {plain(digest, 60)}")
    return File(str(path), size, digest if lfs else "", "" if lfs else digest)  # type: ignore[arg-type]


def read_page(data: bytes, where: str) -> list[File]:
    """Return the files of one page of the hub's list. Raises Wrong."""
    try:
        entries = read_json(data)
    except ValueError:
        entries = None
    if not isinstance(entries, list):
        raise Wrong(f"{where}: no list of files, but {plain(data[:60].decode(errors='replace'), 60)!r}")
    return [file for entry in entries if (file := read_file(entry))]


def complete(files: list[File]) -> list[File]:
    """Return the whole list. Raises Wrong for too many files, or names that cannot exist together."""
    if len(files) > MOST_FILES:
        raise Wrong(f"the hub names {len(files)} files: no model has more than {MOST_FILES}")
    names = {file.path for file in files}
    if len(names) < len(files):
        raise Wrong("the hub names a file twice")
    for name in names:
        parts = name.split("/")
        if both := next((up for end in range(1, len(parts)) if (up := "/".join(parts[:end])) in names), ""):
            raise Wrong(f"the hub names {both} as a file and as a folder")
    return [file for file in files if file.path != RECORD]  # its name is the record's


def origin(url: str) -> Origin:
    """Return the server of a URL. Raises Wrong if it is not http or https."""
    try:
        parts = urllib.parse.urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in ("http", "https") or not host:
        raise Wrong(f"{plain(url)} is not an http or https URL")
    return scheme, host, port or {"http": 80, "https": 443}[scheme]


def public(url: str) -> str:
    """Return a URL for a message: without login and query, which may be a signature."""
    parts = urllib.parse.urlsplit(url)
    return plain(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}", 300)


def next_page(link: str, url: str) -> str:
    """Return the URL of the list's next page, or "". Raises Wrong for another server."""
    if not (match := NEXT.search(link)):
        return ""
    try:
        following = str(urllib.parse.urljoin(url, match[1]))
    except ValueError:
        following = match[1]
    if origin(following) != origin(url):
        raise Wrong(
            f"the next page of the hub's list is on another server, {public(following)}, and not on {public(url)}"
        )
    return following


def retry_after(value: str, now: datetime.datetime) -> float:
    """Return the seconds that a server asks to wait, as seconds or a date; 0 for anything else."""
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(float(value), LONGEST_PAUSE)
    try:
        moment = email.utils.parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max((moment - now).total_seconds(), 0), LONGEST_PAUSE)
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects only to http and https, never from https to http; send the token only to the hub."""

    def __init__(self, hub: Origin) -> None:
        self.hub = hub

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        target = origin(newurl)
        if origin(req.full_url)[0] == "https" and target[0] != "https":
            raise Wrong(f"{public(req.full_url)}: redirected from https to {public(newurl)}")
        new = super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)
        if new is not None and target != self.hub:
            new.remove_header("Authorization")
        return new

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 does not have it


class Hub:
    """One revision of one repository at a hub. Raises Wrong for final problems, OSError for temporary ones."""

    def __init__(self, endpoint: str, repository: str, revision: str, token: str) -> None:
        self.endpoint, self.repository, self.revision = endpoint.rstrip("/"), repository, revision
        self.origin = origin(self.endpoint)
        if not token.isascii() or not token.isprintable():
            raise Wrong("the token is not one word of printable characters")
        self.withheld = bool(token) and self.origin[0] != "https"
        self.token = "" if self.withheld else token
        self.opener = urllib.request.OpenerDirector()  # without the handlers for file:, ftp: and data:
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.UnknownHandler(),
            Redirects(self.origin),
        ):
            self.opener.add_handler(handler)

    def open(self, url: str, start: int = 0, end: int = 0) -> http.client.HTTPResponse:
        """Request a URL of the hub, from byte `start` to the one before `end`, by default to the last."""
        headers = {"User-Agent": "glm-fleet", "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Range": f"bytes={start}-{end - 1 if end else ''}"} if start or end else {}
        try:
            answer: http.client.HTTPResponse = self.opener.open(
                urllib.request.Request(url, headers=headers), timeout=SILENCE
            )
            return answer
        except urllib.error.HTTPError as problem:
            with problem:
                raise self.refusal(problem) from None
        except urllib.error.URLError as problem:
            if final(problem.reason):
                raise Wrong(f"{public(url)}: {plain(problem.reason)}") from None
            raise
        except ValueError:  # a malformed URL
            raise Wrong(f"{public(url)}: redirected to a malformed URL") from None

    def refusal(self, problem: urllib.error.HTTPError) -> Exception:
        """Return what an answer other than 2xx means: Wrong is final, Later to retry."""
        code, where = problem.code, public(problem.url or self.endpoint)
        words = plain(problem.headers.get("X-Error-Code") or problem.reason, 80)
        pause = retry_after(problem.headers.get("Retry-After", ""), datetime.datetime.now(UTC))
        if code in LATER or code >= 500:
            return Later(f"{where}: {code} {words}", pause)
        if code >= 400 and origin(problem.url or self.endpoint) != self.origin:
            # The hub signs storage URLs for a limited time: it returns a new one to the next request.
            return Later(f"{where}: {code} {words}, to which the hub redirects", pause)
        return Wrong(f"{where}: {code} {words}{self._hint(code)}")

    def _hint(self, code: int) -> str:
        if code not in (401, 403):
            return ""
        if self.withheld:
            return " (the token is not sent over http)"
        return " (a token was sent)" if self.token else " (no token was sent)"

    def tree(self) -> list[File]:
        """Return every file of the revision."""
        url = f"{self.endpoint}/api/models/{self.repository}/tree/{self.revision}?recursive=true&expand=false"
        files: list[File] = []
        for _ in range(MOST_PAGES):
            with self.open(url) as answer:
                if origin(answer.geturl()) != self.origin:
                    raise Wrong(f"{public(url)}: redirected to another server, {public(answer.geturl())}")
                data, link = answer.read(LONGEST_PAGE + 1), ", ".join(answer.headers.get_all("Link") or ())
            if len(data) > LONGEST_PAGE:
                raise Wrong(f"{public(url)}: a list of more than {LONGEST_PAGE} bytes")
            files += read_page(data, public(url))
            if not (url := next_page(link, url)):
                return complete(files)
            if len(files) > MOST_FILES:
                return complete(files)
        raise Wrong(f"{self.endpoint}: the list of files does not end")

    def file(self, path: str, start: int, end: int = 0) -> http.client.HTTPResponse:
        """Request a file of the revision, from byte `start` to the one before `end`, by default to the last."""
        url = f"{self.endpoint}/{self.repository}/resolve/{self.revision}/{urllib.parse.quote(path)}"
        return self.open(url, start, end)


def final(reason: object) -> bool:
    """Return whether a connection error is final: a certificate, or a name that does not exist."""
    name = isinstance(reason, socket.gaierror) and reason.errno == socket.EAI_NONAME
    return name or isinstance(reason, ssl.SSLCertVerificationError)
