"""roles/kubernetes/files/snapshot.py: what it keeps of etcd, for whom, how many, and that half a snapshot is none. etcd's gateway stands in.

The real etcd answers it in tests/kubernetes/test_member_pods.py, and in the lab in tests/kubernetes/test_upgrade.py.
"""

import base64
import hashlib
import http.server
import json
import os
import pathlib
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "roles" / "kubernetes" / "files" / "snapshot.py"
DATABASE = os.urandom(70_000)
SUM = hashlib.sha256(DATABASE).digest()


def lines(*pieces: bytes) -> list[dict[str, Any]]:
    return [{"result": {"remaining_bytes": "1", "blob": base64.b64encode(piece).decode()}} for piece in pieces]


WHOLE = lines(DATABASE[:32_768], DATABASE[32_768:], SUM)


class Etcd(http.server.BaseHTTPRequestHandler):
    """Answers a snapshot with `pieces`, to a client that shows a certificate."""

    pieces: Sequence[dict[str, Any]] = ()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if self.path == "/v3/maintenance/snapshot" else 404)
        self.end_headers()
        for piece in self.pieces:
            self.wfile.write(json.dumps(piece).encode() + b"\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("pki")
    form = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-days", "2")
    names = ("-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", *form, *names, "-keyout", f"{folder}/key", "-out", f"{folder}/certificate"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def url(pki: pathlib.Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "certificate", pki / "key")
    context.load_verify_locations(pki / "certificate")
    context.verify_mode = ssl.CERT_REQUIRED
    with http.server.HTTPServer(("127.0.0.1", 0), Etcd) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def save(pki: pathlib.Path, url: str, folder: pathlib.Path, kept: int = 3) -> subprocess.CompletedProcess[str]:
    files = {"authority": str(pki / "certificate"), "certificate": str(pki / "certificate"), "key": str(pki / "key")}
    query = {"folder": str(folder), "name": "1.36.3", "kept": kept, "url": url, **files}
    return subprocess.run(
        [sys.executable, str(SCRIPT)], input=json.dumps(query), capture_output=True, text=True, check=False
    )


def test_a_snapshot_is_whole_and_only_for_root(
    pki: pathlib.Path, url: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Etcd, "pieces", WHOLE)
    reply = json.loads(save(pki, url, tmp_path).stdout)
    file = pathlib.Path(reply["file"])
    assert file.read_bytes() == DATABASE + SUM and reply["bytes"] == len(DATABASE) + 32
    assert file.stat().st_mode & 0o777 == 0o600 and file.name.startswith("1.36.3-")


def test_the_newest_ones_stay(
    pki: pathlib.Path, url: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Etcd, "pieces", WHOLE)
    for age in (300, 200, 100):
        (tmp_path / f"{age}.db").write_bytes(b"x")
        os.utime(tmp_path / f"{age}.db", (age, 1_000_000 - age))
    new = pathlib.Path(json.loads(save(pki, url, tmp_path).stdout)["file"])
    assert {file.name for file in tmp_path.iterdir()} == {"200.db", "100.db", new.name}


@pytest.mark.parametrize(
    ("pieces", "seen"),
    [
        (WHOLE[:-1], "sent a snapshot of 70000 bytes whose sum is another one"),
        ([], "sent a snapshot of 0 bytes whose sum is another one"),
        ([*WHOLE[:1], {"error": {"message": "etcdserver: no space"}}], "etcdserver: no space"),
    ],
)
def test_half_a_snapshot_stops_the_upgrade_and_leaves_those_before(
    pki: pathlib.Path,
    url: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    pieces: Sequence[dict[str, Any]],
    seen: str,
) -> None:
    monkeypatch.setattr(Etcd, "pieces", pieces)
    (tmp_path / "before.db").write_bytes(b"x")
    run = save(pki, url, tmp_path)
    assert (
        run.returncode == 1 and seen in run.stderr and "\nwanted: a snapshot of etcd before the upgrade" in run.stderr
    )
    assert [file.name for file in tmp_path.glob("*.db")] == ["before.db"]


def test_an_etcd_that_does_not_answer_stops_the_upgrade(pki: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = save(pki, "https://127.0.0.1:1", tmp_path)
    assert run.returncode == 1 and "Connection refused" in run.stderr
