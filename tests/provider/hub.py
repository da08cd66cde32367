"""A registry on the loopback with TLS and tokens, for tests of what a tag names: manifests by tag, one login that it takes.

Owns its port, its thread and its certificate. Used by tests/provider/test_registry.py.
"""

import base64
import http.server
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

LOGIN = "robot:word"


class Registry(http.server.ThreadingHTTPServer):
    """Serves HEAD /v2/NAME/manifests/TAG; with `private` only to those who have a token, which it gives for LOGIN."""

    def __init__(self, folder: Path, private: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tags: dict[str, str] = {}
        self.private, self.asked, self.answer = private, list[str](), 200
        # What a hostile one says: where to go instead, which service gives tokens, and what that says.
        self.redirect, self.realm, self.token = "", "", b'{"token": "token"}'
        self.logins = list[str]()
        self.certificate = folder / "registry.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=registry"
        files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", self.certificate]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "key.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def name(self) -> str:
        """HOST:PORT, as images are named by it."""
        return f"127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Registry

    def do_HEAD(self) -> None:
        self.server.asked.append(self.path)
        if self.server.redirect and self.path.startswith("/v2/"):
            self._say(307, Location=self.server.redirect)
        elif self.server.private and self.headers.get("Authorization") != "Bearer token":
            realm = self.server.realm or f"https://{self.server.name}/token"
            self._say(401, **{"WWW-Authenticate": f'Bearer realm="{realm}",service="registry",scope="pull"'})
        elif self.server.answer != 200:
            self._say(self.server.answer)
        elif digest := self.server.tags.get(self.path.removeprefix("/v2/").replace("/manifests/", ":")):
            self._say(200, **{"Docker-Content-Digest": digest})
        else:
            self._say(404)

    def do_GET(self) -> None:
        """The token service."""
        self.server.logins.append(self.headers.get("Authorization", ""))
        right = base64.b64encode(LOGIN.encode()).decode()
        if self.headers.get("Authorization") == f"Basic {right}":
            self._say(200, self.server.token)
        else:
            self._say(401)

    def _say(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on the test's stderr."""
