"""Claims about the source of weights for neighbours: Debian's nginx with the configuration of the role weights, as an unprivileged process.

On this machine's loopback; the role's own task checks that configuration with `nginx -t` too. Fetches are real ones.
"""

import dataclasses
import http.client
import json
import os
import pathlib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator

import pytest

from fleet.weights_fetcher import chunks, neighbours
from tests.support import gateway_pki, nginx_program, weights_hub, weights_source
from tests.support.environment import expect_success
from tests.support.weights_hub import BIG, FETCH, MODEL, REPOSITORY, REVISION, SMALL, Hub
from tests.support.weights_source import CHUNK, Pki, listed

pytestmark = [pytest.mark.exhaustive, pytest.mark.needs("root", "apt-get", "dpkg", "setpriv"), pytest.mark.timeout(600)]
NOBODY = 65534


@dataclasses.dataclass(frozen=True)
class Served:
    """A node with a model, or half of one, and the port of its source."""

    folder: pathlib.Path
    port: int
    hub: Hub
    pki: Pki

    def get(self, path: str, method: str = "GET", certificate: str = "client", **headers: str) -> tuple[int, bytes]:
        """Return status and body of a request with one of the certificates in the folder of the PKI."""
        context = ssl.create_default_context(cafile=self.pki.ca)
        if certificate:
            context.load_cert_chain(self.pki.folder / f"{certificate}.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10)
        context.check_hostname = False
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("source")
    for path in (folder, *folder.parents):
        if path.stat().st_mode & 0o777 == 0o700:  # nginx runs as another user
            path.chmod(0o711)
    pki = weights_source.pki(folder / "tls")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with weights_hub.serve() as hub:
        del hub.files["README.md"]
        own = folder / "own"
        own.mkdir()
        node = weights_hub.Node(own, hub)
        lists = own / REPOSITORY / f".chunks-{REVISION}"
        assert node.fetch(f"--owner={os.getuid()}:{NOBODY}").returncode in (0, 2)
        lists.mkdir(exist_ok=True)
        expect_success(node.run(FETCH, "index", f"--lists={lists}", f"--chunk={CHUNK}"))
        _half_a_fetch(own, hub)
        (own / "secret").write_text("of the machine")
        (own / REPOSITORY / REVISION / "link").symlink_to(own / "secret")
        process = _start(folder, own, port, pki)
        yield Served(own, port, hub, pki)
        process.terminate()
        process.wait(10)


def _half_a_fetch(own: pathlib.Path, hub: Hub) -> None:
    """Put the file BIG back into a part with its first two chunks, as a running fetch has it."""
    incoming, model = own / REPOSITORY / f".incoming-{REVISION}", own / REPOSITORY / REVISION
    incoming.mkdir()
    (model / BIG).unlink()
    (incoming / f"{BIG}.part").write_bytes(hub.files[BIG][: 2 * CHUNK])
    board = chunks.Board(own / REPOSITORY / f".chunks-{REVISION}")
    whole = listed(hub.files[BIG], have=2)
    board.put(BIG, chunks.Chunks(whole["size"], CHUNK, whole["digests"], hub=True))


def _start(folder: pathlib.Path, own: pathlib.Path, port: int, pki: Pki) -> subprocess.Popen[bytes]:
    """Start nginx as the unit does: as a user without rights that reads the model as a member of its group."""
    subprocess.run(["chgrp", "-R", str(NOBODY), str(own)], check=True)
    subprocess.run(["chmod", "-R", "g+rX", str(own)], check=True)
    (folder / "server.pem").write_bytes(pki.server("n1").read_bytes())
    (folder / "ca.pem").write_bytes(pki.ca.read_bytes())
    variables = {
        **{"weights_repository": REPOSITORY, "weights_revision": REVISION, "weights_dir": str(own)},
        **{"weights_address": "127.0.0.1", "weights_port": port, "_weights_source_dir": str(folder)},
        "_weights_source_connections": 2,
    }
    text = nginx_program.configurations(folder, {"n1": variables})["n1"]
    (folder / "nginx.conf").write_text(text)
    for path in (folder / "server.pem", folder / "ca.pem", folder / "nginx.conf"):
        path.chmod(0o644)
    run = folder / "run"
    run.mkdir()
    os.chown(run, NOBODY, NOBODY)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--"]
    nginx = [str(nginx_program.program()), "-p", f"{run}/", "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*user, *nginx, "-t"], capture_output=True, text=True)
    assert "test is successful" in checked.stderr, checked.stderr
    process = subprocess.Popen([*user, *nginx])
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    raise AssertionError("nginx does not listen")


def test_a_file_of_the_model_is_served_by_ranges(served: Served) -> None:
    assert served.get(f"/file/{SMALL}") == (200, served.hub.files[SMALL])
    assert served.get(f"/file/{SMALL}", Range="bytes=2-4") == (206, served.hub.files[SMALL][2:5])
    assert served.get("/file/sub/tokenizer.json") == (200, b"{}")
    assert served.get(f"/file/{SMALL}", method="HEAD") == (200, b"")


def test_the_part_of_a_running_fetch_is_served_as_far_as_it_is_there(served: Served) -> None:
    assert served.get(f"/file/{BIG}", Range=f"bytes={CHUNK}-{2 * CHUNK - 1}") == (
        206,
        served.hub.files[BIG][CHUNK : 2 * CHUNK],
    )
    assert served.get(f"/file/{BIG}", Range=f"bytes={2 * CHUNK}-{3 * CHUNK - 1}")[0] == 416


def test_the_list_of_each_file_is_served(served: Served) -> None:
    status, body = served.get(f"/list/{chunks.list_name(SMALL)}")
    assert (status, json.loads(body)) == (200, listed(served.hub.files[SMALL]))


@pytest.mark.parametrize("path", [
    *("/", "/file/", "/list/", "/file/../secret", "/file/%2e%2e/%2e%2e/secret", "/file/..%2f..%2fsecret", "/file/link", "/file/sub"),
    *(f"/{REVISION}/{SMALL}", f"/.incoming-{REVISION}/{BIG}.part", f"/file/{'x' * 3000}", "/list/../../secret", "/file//etc/passwd"),
])  # fmt: skip
def test_nothing_else_is_served(path: str, served: Served) -> None:
    status, body = served.get(path)
    assert status in (400, 403, 404, 414) and b"of the machine" not in body and SMALL.encode() not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_only_get_and_head_are_answered(method: str, served: Served) -> None:
    assert served.get(f"/file/{SMALL}", method=method)[0] in (403, 405)


def test_a_client_needs_a_certificate_of_the_stack_for_weights(served: Served) -> None:
    other = gateway_pki.authority("of another stack").sign("fleet-weights", gateway_pki.CLIENT)
    (served.pki.folder / "other.pem").write_text(other)
    (served.pki.folder / "gateway.pem").write_text(served.pki.authority.sign("glm-1", gateway_pki.CLIENT))
    ended = served.pki.authority.sign("fleet-weights", gateway_pki.CLIENT, days=-1)
    (served.pki.folder / "ended.pem").write_text(ended)
    (served.pki.folder / "as-server.pem").write_text(served.pki.authority.sign("fleet-weights", gateway_pki.SERVER))
    for certificate in ("", "other", "ended", "as-server"):
        assert served.get(f"/file/{SMALL}", certificate=certificate)[0] == 400, certificate
    assert served.get(f"/file/{SMALL}", certificate="gateway")[0] == 403
    assert served.get(f"/file/{SMALL}")[0] == 200


def test_a_fetch_takes_the_model_from_it_and_the_rest_from_the_hub(served: Served, tmp_path: pathlib.Path) -> None:
    """The part that the source has is not asked for at the hub."""
    (tmp_path / "n2").mkdir()
    node = weights_hub.Node(tmp_path / "n2", served.hub)
    places = [neighbours.Place("n1", "127.0.0.1", served.port, True), neighbours.Place("n2", "127.0.0.1", 1, False)]
    neighbours.write_places(tmp_path / "neighbours.json", places)
    lists = node.dir / REPOSITORY / f".chunks-{REVISION}"
    expect_success(node.run(MODEL, "prepare", f"--lists={lists}"))
    lists.mkdir()
    more = [
        f"--neighbours={tmp_path / 'neighbours.json'}",
        "--name=n2",
        f"--tls={served.pki.folder}",
        f"--lists={lists}",
    ]
    served.hub.log.clear()
    done = subprocess.run(node.fetching(*more, f"--chunk={CHUNK}"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    expect_success(node.run(MODEL, "finish"))
    assert (node.model / BIG).read_bytes() == served.hub.files[BIG]
    assert served.hub.ranges(BIG) == [f"bytes={2 * CHUNK}-"] and served.hub.ranges(SMALL) == []
