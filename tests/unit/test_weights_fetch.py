"""Claims about the downloader of the role weights (roles/weights/files/fetch_weights.py), against a hub of stdlib on loopback.

Each test runs the file as the node does: as a program of its own. No network beyond 127.0.0.1, no Docker.
"""

import hashlib
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "roles" / "weights" / "files" / "fetch_weights.py"
REPOSITORY, REVISION = "lab/model", "a" * 40
BIG, SMALL = "model-00001.safetensors", "config.json"


class Hub(http.server.ThreadingHTTPServer):
    """A hub with one repository. `log` has (path, Range, Authorization); faults are switches on it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {
            BIG: os.urandom(3_000_000),
            SMALL: b'{"architectures": ["Glm"]}',
            "sub/tokenizer.json": b"{}",
            "README.md": b"#",
        }
        self.log: list[tuple[str, str, str]] = []
        self.served: dict[str, bytes] = {}  # bytes that are sent in place of the right ones
        self.cuts: dict[str, int] = {}  # how often the line is cut after 1 MB
        self.stall = threading.Event()  # set: the big file stops after 1 MB until the client is gone
        self.token = ""
        self.storage = ""  # base URL that files are redirected to
        self.status = 0  # status of every answer but 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def tree(self) -> list[dict]:
        entries = []
        for path, data in self.files.items():
            entry = {
                "type": "file",
                "path": path,
                "size": len(data),
                "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
            }
            if path.endswith(".safetensors"):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
            entries.append(entry)
        return [*entries, {"type": "directory", "path": "sub", "oid": "0", "size": 0}]

    def asked(self, path: str) -> list[str]:
        """The Range headers of the requests for one file, in order."""
        return [asked for url, asked, _ in self.log if url.endswith(f"/{path}")]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        return

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        hub, path = self.server, urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        hub.log.append((path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if hub.status:
            return self.answer(hub.status, b"", X_Error_Code="Faulty")
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.answer(401, b"", X_Error_Code="GatedRepo")
        if path == f"/api/models/{REPOSITORY}/tree/{REVISION}":
            return self.answer(200, json.dumps(hub.tree()).encode())
        if "/resolve/" not in path:
            return self.answer(404, b"", X_Error_Code="RevisionNotFound")
        name = path.partition(f"/resolve/{REVISION}/")[2]
        if hub.storage:
            return self.answer(302, b"", Location=f"{hub.storage}{path}")
        data = hub.served.get(name, hub.files[name])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = hub.cuts.get(name, 0) > 0
        if cut or (name == BIG and hub.stall.is_set()):
            self.wfile.write(data[start : start + 1_000_000])
            self.wfile.flush()
            if cut:
                hub.cuts[name] -= 1
            else:
                self.rfile.read(1)  # until the client is gone
            self.close_connection = True
            return None
        self.wfile.write(data[start:])
        return None


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Node:
    """The downloader as a node runs it: its command line, and the folder of the model."""

    def __init__(self, folder: pathlib.Path, hub: Hub) -> None:
        self.dir, self.hub, self.sums = folder, hub, folder / "wanted.json"
        self.model = folder / REPOSITORY / REVISION
        self.part = folder / REPOSITORY / f".incoming-{REVISION}" / f"{BIG}.part"

    def command(self, verb: str, *more: str) -> list[str]:
        fixed = [
            "--repository",
            REPOSITORY,
            "--revision",
            REVISION,
            "--dir",
            str(self.dir),
            "--manifest",
            str(self.sums),
        ]
        return [
            sys.executable,
            str(SCRIPT),
            verb,
            *fixed,
            "--endpoint",
            self.hub.url,
            "--exclude=*.md",
            "--tries=2",
            *more,
        ]

    def fetch(self, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command("fetch", *more), capture_output=True, text=True, timeout=60)

    def check(self) -> dict:
        return json.loads(subprocess.run(self.command("check"), capture_output=True, text=True, check=True).stdout)

    def manifest(self) -> dict:
        return json.loads((self.model / "manifest.json").read_text())


@pytest.fixture
def node(tmp_path: pathlib.Path, hub: Hub) -> Node:
    return Node(tmp_path, hub)


def test_every_file_of_the_revision_arrives_and_the_manifest_says_so(node: Node, hub: Hub) -> None:
    assert node.fetch().returncode == 0
    assert (node.model / BIG).read_bytes() == hub.files[BIG]
    assert (node.model / "sub" / "tokenizer.json").read_bytes() == b"{}"
    assert not (node.model / "README.md").exists()
    record = node.manifest()["files"]
    assert {path: entry["sha256"] for path, entry in record.items()} == {
        path: hashlib.sha256(data).hexdigest() for path, data in hub.files.items() if path != "README.md"
    }
    assert record[BIG]["size"] == 3_000_000
    assert node.check() == {
        "ready": True,
        "owned": True,
        "why": "",
        "path": str(node.model),
        "revision": REVISION,
        "bytes": 3_000_000 + len(hub.files[SMALL]) + 2,
        "files": 3,
        "manifest": hashlib.sha256((node.model / "manifest.json").read_bytes()).hexdigest(),
    }


def test_a_second_look_asks_the_hub_nothing(node: Node, hub: Hub) -> None:
    node.fetch()
    hub.log.clear()
    assert node.check()["ready"]
    assert hub.log == []


def test_a_killed_fetch_goes_on_where_it_stopped(node: Node, hub: Hub) -> None:
    hub.stall.set()
    running = subprocess.Popen(node.command("fetch"), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while not (node.part.exists() and node.part.stat().st_size == 1_000_000) and time.monotonic() < end:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not node.check()["ready"]
    hub.stall.clear()
    hub.log.clear()
    assert node.fetch().returncode == 0
    assert hub.asked(BIG) == ["bytes=1000000-"]
    assert (node.model / BIG).read_bytes() == hub.files[BIG]


def test_a_cut_line_goes_on_with_range(node: Node, hub: Hub) -> None:
    hub.cuts[BIG] = 2
    done = node.fetch()
    assert done.returncode == 0, done.stdout
    assert hub.asked(BIG) == ["", "bytes=1000000-", "bytes=2000000-"]


def test_a_disk_that_takes_only_a_part_of_a_piece_is_full_and_what_it_took_is_kept(node: Node, hub: Hub) -> None:
    """A write that is cut short is no error of the system's: counted as whole it would leave a hole under a right sum."""
    full = subprocess.run(["prlimit", "--fsize=2500001", *node.command("fetch")], capture_output=True, text=True)
    assert full.returncode == 1
    assert re.search(
        rf"^{BIG}: {node.part.parent}: no space left: [\d.]+ [GM]B are free, 0\.5 MB are needed$", full.stdout, re.M
    )
    assert node.part.stat().st_size == 2_500_001
    hub.log.clear()
    assert node.fetch().returncode == 0
    assert hub.asked(BIG) == ["bytes=2500001-"]
    assert (node.model / BIG).read_bytes() == hub.files[BIG]


def test_a_part_that_was_broken_on_disk_is_fetched_anew(node: Node, hub: Hub) -> None:
    node.part.parent.mkdir(parents=True)
    node.part.write_bytes(b"\0" * 500_000)
    assert node.fetch().returncode == 0
    assert hub.asked(BIG) == ["bytes=500000-", ""]
    assert (node.model / BIG).read_bytes() == hub.files[BIG]


def test_a_file_with_a_wrong_sha256_is_refused_named_and_removed(node: Node, hub: Hub) -> None:
    hub.served[BIG] = bytes(3_000_000)
    done = node.fetch()
    assert done.returncode == 1
    seen, wanted = hashlib.sha256(bytes(3_000_000)).hexdigest(), hashlib.sha256(hub.files[BIG]).hexdigest()
    assert f"{BIG}: sha256 {seen}, wanted {wanted}" in done.stdout
    assert not node.model.exists() and not node.part.exists()
    hub.served.clear()
    assert node.fetch().returncode == 0


def test_a_small_file_is_held_to_gits_blob_id(node: Node, hub: Hub) -> None:
    hub.served[SMALL] = hub.files[SMALL].replace(b"Glm", b"Elm")
    done = node.fetch()
    assert done.returncode == 1 and f"{SMALL}: git blob" in done.stdout


def test_our_own_sums_count_more_than_the_hubs(node: Node, hub: Hub) -> None:
    node.sums.write_text(json.dumps({BIG: "0" * 64}))
    done = node.fetch()
    assert done.returncode == 1 and "weights_manifest says 0000" in done.stdout
    assert hub.asked(BIG) == []
    node.sums.write_text(json.dumps({"absent.bin": "0" * 64}))
    assert "the hub does not have absent.bin" in node.fetch().stdout
    node.sums.write_text(json.dumps({SMALL: hashlib.sha256(hub.files[SMALL]).hexdigest()}))
    assert node.fetch().returncode == 0 and node.check()["ready"]


def test_a_changed_file_alone_is_fetched_again(node: Node, hub: Hub) -> None:
    node.fetch()
    hub.log.clear()
    (node.model / SMALL).write_bytes(b"broken")
    assert node.check()["why"] == f"{SMALL} is missing or was changed"
    assert node.fetch().returncode == 0
    assert node.check()["ready"] and (node.model / SMALL).read_bytes() == hub.files[SMALL]
    assert hub.asked(BIG) == [] and hub.asked(SMALL) == [""]


def test_nothing_of_a_failed_fetch_is_where_the_model_is_read(node: Node, hub: Hub) -> None:
    hub.status = 500
    done = node.fetch()
    assert done.returncode == 1 and "500 Faulty" in done.stdout
    assert not node.model.exists()


def test_a_gated_repository_says_whether_a_token_was_sent(node: Node, hub: Hub, tmp_path: pathlib.Path) -> None:
    hub.token = "right"
    assert "401 GatedRepo (no token was sent)" in node.fetch().stdout
    (tmp_path / "token").write_text("right\n")
    assert node.fetch(f"--token-file={tmp_path / 'token'}").returncode == 0


def test_the_token_never_leaves_the_hubs_host(node: Node, hub: Hub, tmp_path: pathlib.Path) -> None:
    storage = Hub()
    storage.files = hub.files
    thread = threading.Thread(target=storage.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.token, hub.storage = "right", storage.url
    (tmp_path / "token").write_text("right")
    done = node.fetch(f"--token-file={tmp_path / 'token'}")
    storage.shutdown()
    thread.join()
    storage.server_close()
    assert done.returncode == 0, done.stdout
    assert len(storage.log) == 3 and {sent for _, _, sent in storage.log} == {""}


def test_a_hub_that_names_a_file_outside_the_folder_is_refused(node: Node, hub: Hub) -> None:
    hub.files["../../etc/passwd"] = b"x"
    assert "outside the model's folder" in node.fetch().stdout


def test_progress_is_told_in_bytes_and_files(node: Node) -> None:
    assert re.search(r"^0\.00 of 0\.00 GB, 3 of 3 files, \d+ MB/s$", node.fetch().stdout, re.MULTILINE)
