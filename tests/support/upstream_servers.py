"""Servers on the loopback, for tests of what a name stands for: a registry with TLS and tokens, and one that answers as a test says.

Each owns its port and its thread. Used by the tests of this folder and by tests/unit/test_cli_pin.py.
"""

import base64
import http.server
import json
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
        self.redirect, self.realm = "", ""
        self.token: bytes = b'{"token": "token"}'
        self.logins: list[str] = []  # what came as Authorization
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
        self.server.logins.append(self.headers.get("Authorization") or "")
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


class Plain(http.server.ThreadingHTTPServer):
    """Answers each GET and HEAD of a path with the status, headers and body that `answers` has for it; without TLS."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Plain)
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.endless = False  # a body without an end
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def json(self, path: str, told: Any, status: int = 200) -> None:
        """Answer a path with JSON."""
        self.answers[path] = (status, {}, json.dumps(told).encode())

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Plain(http.server.BaseHTTPRequestHandler):
    server: Plain

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, headers, body = self.server.answers.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not self.server.endless:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            while self.server.endless:
                self.wfile.write(b" " * (1 << 16))
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Nothing on the test's stderr."""
