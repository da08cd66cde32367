"""A site's read-only hub of models, in the protocol of Hugging Face's clients: /srv/hub/ORG/NAME/REVISION/FILES.

Answers /api/models/REPO[/revision|/tree/REV] and /REPO/resolve/REV/FILE with ranges. Reads its faults from /srv/faults.json at every
request: {"hub": {"status": int} or {"cut": bytes, "times": n} or {"rate": bytes a second} or {"flip": file name}}.
Called by site.py.
"""

import collections
import functools
import hashlib
import json
import pathlib
import re
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler
from typing import Any

ROOT = pathlib.Path("/srv/hub")
FAULTS = pathlib.Path("/srv/faults.json")
PIECE = 1 << 16
LISTING = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(?:/(revision|tree)/([^/]+)/?)?")
FILE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")
_cut: "collections.Counter[str]" = collections.Counter()  # how often each file's transfer was cut


def faults(part: str) -> dict[str, Any]:
    """Return the active faults of one part of the site."""
    try:
        active: dict[str, Any] = json.loads(FAULTS.read_text()).get(part, {})
    except FileNotFoundError:
        return {}
    return active


def answer(request: BaseHTTPRequestHandler) -> None:
    """Answer a GET or HEAD."""
    fault = faults("hub")
    if "status" in fault:
        return _problem(request, int(fault["status"]), "Fault")
    path = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)
    if listing := LISTING.fullmatch(path):
        return _list(request, listing[1], listing[2] or "revision", listing[3] or "main")
    if file := FILE.fullmatch(path):
        return _file(request, file[1], file[2], file[3], fault)
    return _problem(request, 404, "RepoNotFound")


def _revision(repository: str, name: str) -> pathlib.Path | None:
    """Return the folder of a revision, or None. `main` is a link to one."""
    folder = ROOT / repository / name
    return folder.resolve() if folder.is_dir() else None


def _list(request: BaseHTTPRequestHandler, repository: str, what: str, revision: str) -> None:
    if not (ROOT / repository).is_dir():
        return _problem(request, 404, "RepoNotFound")
    folder = _revision(repository, revision)
    if folder is None:
        return _problem(request, 404, "RevisionNotFound")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if what == "tree":
        return _json(request, [_entry(path, folder) for path in files])
    siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files]
    model = {"id": repository, "modelId": repository, "sha": folder.name, "private": False, "siblings": siblings}
    return _json(request, model)


def _entry(path: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    size = path.stat().st_size
    entry = {"type": "file", "path": path.relative_to(folder).as_posix(), "size": size, "oid": _blob(path)}
    return {**entry, "lfs": {"oid": _sha256(path), "size": size, "pointerSize": 134}} if _large(path) else entry


def _file(request: BaseHTTPRequestHandler, repository: str, revision: str, name: str, fault: dict[str, Any]) -> None:
    folder = _revision(repository, revision)
    path = (folder / name).resolve() if folder else None
    if folder is None or path is None or folder not in path.parents or not path.is_file():
        return _problem(request, 404, "EntryNotFound" if folder else "RevisionNotFound")
    size = path.stat().st_size
    start, end, status = 0, size - 1, 200
    if part := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
        start, end, status = int(part[1]), min(int(part[2] or end), end), 206
        if start >= size:
            return _send(request, 416, b"", {"Content-Range": f"bytes */{size}"})
    tag = _sha256(path) if _large(path) else _blob(path)
    headers = {"ETag": f'"{tag}"', "X-Repo-Commit": folder.name, "Accept-Ranges": "bytes"}
    if _large(path):
        headers |= {"X-Linked-Size": str(size), "X-Linked-ETag": f'"{tag}"'}
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    request.send_response(status)
    for key, value in {**headers, "Content-Length": str(end - start + 1)}.items():
        request.send_header(key, value)
    request.end_headers()
    if request.command != "HEAD":
        _body(request, path, start, end, fault)
    return None


def _body(request: BaseHTTPRequestHandler, path: pathlib.Path, start: int, end: int, fault: dict[str, Any]) -> None:
    """Send bytes start to end. A fault slows it down, changes a byte, or cuts it."""
    limit = fault.get("cut") if _large(path) and _cut[str(path)] < fault.get("times", 1) else None
    with path.open("rb") as file:
        file.seek(start)
        offset = 0
        while start + offset <= end:
            piece = file.read(min(PIECE, end - start - offset + 1))
            if fault.get("flip") == path.name and start + offset == 0:
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            if limit is not None and offset + len(piece) > limit:
                _cut[str(path)] += 1
                request.close_connection = True
                return
            request.wfile.write(piece)
            offset += len(piece)
            if "rate" in fault:
                time.sleep(len(piece) / fault["rate"])


def _large(path: pathlib.Path) -> bool:
    return path.suffix in (".safetensors", ".bin") or path.stat().st_size > 10 << 20


@functools.cache
def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def _blob(path: pathlib.Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _json(request: BaseHTTPRequestHandler, value: Any) -> None:
    _send(request, 200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _problem(request: BaseHTTPRequestHandler, status: int, name: str) -> None:
    headers = {"X-Error-Code": name, "Content-Type": "application/json"}
    _send(request, status, json.dumps({"error": name}).encode(), headers)


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for key, value in {**headers, "Content-Length": str(len(body))}.items():
        request.send_header(key, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
