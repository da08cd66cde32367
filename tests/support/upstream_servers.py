"""Servers on the loopback, for tests of fleet.upstream: a registry with TLS and tokens, and a server that answers as a test says.

Used by tests/upstream and tests/unit/test_cli_pin.py.
"""

import base64
import json
from pathlib import Path
from typing import Any

from tests.support.http_server import Handler, LoopbackServer, make_certificate

LOGIN = "robot:word"


class Registry(LoopbackServer):
    """Serves HEAD /v2/NAME/manifests/TAG; with `private` only for a token, which it gives for LOGIN. `name`: HOST:PORT."""

    def __init__(self, folder: Path, private: bool = False) -> None:
        self.tags: dict[str, str] = {}
        self.private, self.requests, self.answer = private, list[str](), 200
        # Of a hostile one: a redirect, another token service, and another answer of that service.
        self.redirect, self.realm = "", ""
        self.token: bytes = b'{"token": "token"}'
        self.logins: list[str] = []  # each request's Authorization
        self.certificate = make_certificate(folder, "registry")
        super().__init__(_Handler, self.certificate)


class _Handler(Handler):
    server: Registry

    def do_HEAD(self) -> None:
        self.server.requests.append(self.path)
        self.server.logins.append(self.headers.get("Authorization") or "")
        if self.server.redirect and self.path.startswith("/v2/"):
            self.reply(307, Location=self.server.redirect)
        elif self.server.private and self.headers.get("Authorization") != "Bearer token":
            realm = self.server.realm or f"https://{self.server.name}/token"
            self.reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="registry",scope="pull"')
        elif self.server.answer != 200:
            self.reply(self.server.answer)
        elif digest := self.server.tags.get(self.path.removeprefix("/v2/").replace("/manifests/", ":")):
            self.reply(200, Docker_Content_Digest=digest)
        else:
            self.reply(404)

    def do_GET(self) -> None:
        """Answer as the token service."""
        login = self.headers.get("Authorization", "")
        self.server.logins.append(login)
        right = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
        self.reply(*((200, self.server.token) if login == right else (401,)))


class Plain(LoopbackServer):
    """Answers each GET and HEAD of a path with the status, headers and body that `answers` has for it; without TLS."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.requests: list[str] = []
        self.endless = False  # a body without an end
        super().__init__(_Plain)

    def json(self, path: str, body: Any, status: int = 200) -> None:
        """Answer a path with JSON."""
        self.answers[path] = (status, {}, json.dumps(body).encode())


class _Plain(Handler):
    server: Plain

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        status, headers, body = self.server.answers.get(self.path, (404, {}, b""))
        if not self.server.endless:
            self.reply(status, body, **headers)
            return
        self.send_response(status)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * (1 << 16))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
