"""The certificate of the lab's site, which its registry and its hub have, seen by a client that trusts the site's CA alone."""

import http.server
import importlib.util
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "lab" / "images" / "site" / "registry.py"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, str]]:
    """A server with the site's TLS: its port, and the certificate of the CA."""
    spec = importlib.util.spec_from_file_location("registry", FILE)
    assert spec and spec.loader
    registry = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(registry)
    monkeypatch.setattr(registry, "KEYS", tmp_path / "keys")
    authority = registry.authority()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = registry.tls().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, authority
    server.shutdown()
    server.server_close()


def shake_hands(port: int, authority: str, name: str) -> None:
    context = ssl.create_default_context(cadata=authority)
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain, server_hostname=name):
        pass


@pytest.mark.parametrize("name", ["registry.lab.internal", "hub.lab.internal"])
def test_registry_and_hub_have_a_certificate_of_the_site(site: tuple[int, str], name: str) -> None:
    shake_hands(*site, name)


def test_no_other_name_has_it(site: tuple[int, str]) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(*site, "git.lab.internal")
