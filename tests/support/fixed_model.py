"""A served model that answers every request with the same words, and 401 without a key. Used by tests/provider/test_run.py."""

import json

from tests.support.http_server import Handler, LoopbackServer


class Model(LoopbackServer):
    """Listens until `close`; keeps the Authorization headers."""

    def __init__(self) -> None:
        self.words = ""
        self.keys: set[str] = set()
        super().__init__(_Handler)


class _Handler(Handler):
    server: Model

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers.get("Authorization", "")
        self.server.keys.add(key)
        body = {"choices": [{"message": {"content": self.server.words}}]} if key else {"error": "Unauthorized"}
        self.reply(200 if key else 401, json.dumps(body).encode())
