"""Claims about images of the lab that no Docker daemon makes: a registry gets each part once, over TLS, and names the image by its digest."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import certificates
from lab.commands import LabError
from lab.kubernetes import oci
from lab.kubernetes.oci import Image, Link

NAME = "registry.example.com"


class Registry(http.server.BaseHTTPRequestHandler):
    """A registry in memory that records what it gets; `refuses` is a status for every manifest."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]
    puts: list[str]
    refuses: int

    def do_HEAD(self) -> None:
        self.answer(200 if self.path.rpartition("/")[2] in self.kept else 404)

    def do_POST(self) -> None:
        self.body()
        self.answer(202, {"Location": f"https://{NAME}:{self.server.server_port}/v2/lab/x/blobs/uploads/1?state=a"})  # type: ignore[attr-defined]

    def do_PUT(self) -> None:
        body = self.body()
        self.puts.append(self.path)
        if "/manifests/" in self.path and self.refuses:
            return self.answer(self.refuses)
        self.kept[self.path.rpartition("digest=")[2] if "digest=" in self.path else oci.digest(body)] = body
        return self.answer(201)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, form: str, *words: object) -> None:
        pass


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[oci.Registry]:
    """A registry on the loopback with a certificate of its name."""
    authority, private = certificates.new_authority("test", certificates.now())
    wanted = certificates.Wanted("server", NAME, (NAME,))
    file = tmp_path / "server.pem"
    file.write_text(certificates.issue(wanted, authority, private, certificates.now()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    Registry.kept, Registry.puts, Registry.refuses = {}, [], 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield oci.Registry(f"{NAME}:{server.server_port}", "127.0.0.1", authority)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


IMAGE = Image({"usr/bin/x": b"program", "usr/bin/y": Link("x")}, {"Entrypoint": ["/usr/bin/x"]})


def test_an_image_is_named_by_the_digest_of_its_manifest(registry: oci.Registry) -> None:
    reference = registry.push(IMAGE, "lab/x", "1")
    assert reference == f"{registry.name}/lab/x@{oci.digest(IMAGE.manifest)}"
    assert Registry.kept == {oci.digest(part): part for part in (IMAGE.layer, IMAGE.config, IMAGE.manifest)}


def test_a_part_that_the_registry_has_is_not_sent_again(registry: oci.Registry) -> None:
    registry.push(IMAGE, "lab/x", "1")
    Registry.puts.clear()
    registry.push(IMAGE, "lab/x", "2")
    assert Registry.puts == ["/v2/lab/x/manifests/2"]


def test_a_registry_that_refuses_is_named(registry: oci.Registry) -> None:
    Registry.refuses = 403
    with pytest.raises(LabError, match=rf"^PUT /v2/lab/x/manifests/1 at the registry {registry.name}: 403"):
        registry.push(IMAGE, "lab/x", "1")
