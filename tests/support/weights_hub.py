"""A hub of models on the loopback, and a node that fetches from it: for the tests of fleet/weights_fetcher."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator

from tests.support import http_server
from tests.support.environment import expect_success

ROOT = pathlib.Path(__file__).parents[2]
# As the role runs them on a node: the one as a file beside its package, the other as text.
FETCH = (str(ROOT / "roles" / "weights" / "files" / "fetch-weights"),)
MODEL = ("-c", (ROOT / "fleet" / "weights_fetcher" / "model.py").read_text())
REPOSITORY, REVISION = "lab/model", "a" * 40
BIG, SMALL = "model-00001.safetensors", "config.json"


class Hub(http_server.LoopbackServer):
    """A hub with one repository. `log` has (path, Range, Authorization); faults are switches on it."""

    def __init__(self, certificate: pathlib.Path | None = None) -> None:
        self.files = {
            BIG: os.urandom(3_000_000),
            SMALL: b'{"architectures": ["Glm"]}',
            "sub/tokenizer.json": b"{}",
            "README.md": b"#",
        }
        self.log: list[tuple[str, str, str]] = []
        self.served: dict[str, bytes] = {}  # in place of the right bytes
        self.cuts: dict[str, int] = {}  # how often the line breaks after 1 MB
        self.stall = threading.Event()  # set: the big file stops after 1 MB until the client leaves
        self.token = ""
        self.storage = ""  # base URL of the redirects of files
        self.status = 0  # status of every answer but 200
        self.refusals: list[tuple[int, str]] = []  # (status, Retry-After) of the next answers
        self.deaf = False  # knows no Range
        self.page: bytes | None = None  # in place of the list of files
        self.next = ""  # Link header of the list
        self.entries: list[object] = []  # of the list, besides the files
        super().__init__(Handler, certificate)

    def tree(self) -> list[dict]:
        entries = []
        for path, data in self.files.items():
            oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry: dict = {"type": "file", "path": path, "size": len(data), "oid": oid}
            if path.endswith(".safetensors"):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
            entries.append(entry)
        return [*entries, {"type": "directory", "path": "sub", "oid": "0", "size": 0}]

    def ranges(self, path: str) -> list[str]:
        """Return the Range headers of the requests for one file, in order."""
        return [ranges for url, ranges, _ in self.log if url.endswith(f"/{path}")]


class Handler(http_server.Handler):
    protocol_version = "HTTP/1.1"
    RANGE = ""  # a wrong Content-Range
    server: Hub

    def do_GET(self) -> None:
        hub, path = self.server, urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        hub.log.append((path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if hub.refusals:
            status, later = hub.refusals.pop(0)
            return self.reply(status, b"", X_Error_Code="Faulty", **({"Retry_After": later} if later else {}))
        if hub.status:
            return self.reply(hub.status, b"", X_Error_Code="Faulty")
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.reply(401, b"", X_Error_Code="GatedRepo")
        if path == f"/api/models/{REPOSITORY}/tree/{REVISION}":
            page = json.dumps([*hub.tree(), *hub.entries]).encode() if hub.page is None else hub.page
            return self.reply(200, page, **({"Link": hub.next} if hub.next else {}))
        if "/resolve/" not in path:
            return self.reply(404, b"", X_Error_Code="RevisionNotFound")
        name = path.partition(f"/resolve/{REVISION}/")[2]
        if hub.storage:
            return self.reply(302, b"", Location=f"{hub.storage}{path}")
        data = hub.served.get(name, hub.files[name])
        part = None if hub.deaf else re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(part[1]) if part else 0
        whole, data = len(data), data[: int(part[2]) + 1] if part and part[2] else data
        self.send_response(206 if part else 200)
        if part:
            self.send_header("Content-Range", self.RANGE or f"bytes {start}-{len(data) - 1}/{whole}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = hub.cuts.get(name, 0) > 0
        if cut or (name == BIG and hub.stall.is_set()):
            self.wfile.write(data[start : start + 1_000_000])
            self.wfile.flush()
            if cut:
                hub.cuts[name] -= 1
            else:
                self.rfile.read(1)  # until the client leaves
            self.close_connection = True
            return None
        self.wfile.write(data[start:])
        return None


@contextlib.contextmanager
def serve(certificate: pathlib.Path | None = None) -> Iterator[Hub]:
    """Yield a hub that answers until the block ends; with a certificate over TLS."""
    hub = Hub(certificate)
    try:
        yield hub
    finally:
        hub.close()


def certificate(folder: pathlib.Path) -> pathlib.Path:
    """Make hub.pem, a certificate of 127.0.0.1 with its key."""
    return http_server.make_certificate(folder, "hub")


class Node:
    """The downloader as a node runs it: its command line, and the folder of the model."""

    def __init__(self, folder: pathlib.Path, hub: Hub) -> None:
        self.dir, self.hub, self.sums = folder, hub, folder / "wanted.json"
        self.environment: dict[str, str] = {}
        self.sums.write_text("{}")  # as the role leaves it where there is no weights_manifest
        self.model = folder / REPOSITORY / REVISION
        self.part = folder / REPOSITORY / f".incoming-{REVISION}" / f"{BIG}.part"

    def command(self, program: tuple[str, ...], verb: str, *more: str) -> list[str]:
        place = [f"--repository={REPOSITORY}", f"--revision={REVISION}", f"--dir={self.dir}", f"--manifest={self.sums}"]
        return [sys.executable, "-B", *program, verb, *place, "--exclude=*.md", *more]

    def run(self, program: tuple[str, ...], verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(program, verb, *more), capture_output=True, text=True, timeout=60)

    def fetching(self, *more: str) -> list[str]:
        """Return the command that only fetches."""
        return self.command(FETCH, "fetch", f"--endpoint={self.hub.url}", "--patience=2", *more)

    def fetch(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Prepare, fetch and finish as the role does. Returns the first that fails, or the fetch."""
        expect_success(self.run(MODEL, "prepare"))
        fetch = subprocess.run(
            self.fetching(*more), capture_output=True, text=True, timeout=60, env={**os.environ, **self.environment}
        )
        finish = self.run(MODEL, "finish") if fetch.returncode == 0 else fetch
        for program in (fetch, finish):
            assert "Traceback" not in program.stdout + program.stderr, program.stderr
        return finish if finish.returncode else fetch

    def check(self) -> dict:
        return json.loads(expect_success(self.run(MODEL, "check")))

    def name(self, **more: str) -> None:
        """Write weights_manifest as the role does: the hub's files that are not excluded, and `more`."""
        sums = {path: hashlib.sha256(data).hexdigest() for path, data in self.hub.files.items()}
        self.sums.write_text(json.dumps({path: digest for path, digest in sums.items() if path != "README.md"} | more))

    def manifest(self) -> dict:
        return json.loads((self.model / "manifest.json").read_text())
