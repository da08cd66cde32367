"""A server that the probes' runner can ask: real HTTP on the loopback, answers as vLLM's or as a test wants them.

Used by tests/unit/test_probes_runner.py.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server sends: a length other than that of the content breaks the answer off."""

    status: int
    content: bytes
    length: int | None = None


def whole(status: int = 200, **message: Any) -> Reply:
    return Reply(status, json.dumps({"choices": [{"message": {"content": None, **message}}]}).encode())


def streamed(*deltas: Mapping[str, str]) -> Reply:
    """Return the events of vLLM: a first piece without content, the pieces, an empty one with the usage, the end."""
    events: list[dict[str, Any]] = [
        {"choices": [{"delta": delta}]} for delta in ({"role": "assistant", "content": ""}, *deltas)
    ]
    lines = [f"data: {json.dumps(event)}" for event in [*events, {"choices": [], "usage": {}}]]
    return Reply(200, "\n\n".join([*lines, "data: [DONE]", ""]).encode())


Model = Callable[[Mapping[str, Any], str], Reply]


class Server(ThreadingHTTPServer):
    """Answers every request with what `model` (body, Authorization) says; keeps the bodies and the paths."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model: Model = lambda body, key: whole(content="hello")
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        reply = self.server.model(body, self.headers.get("Authorization", ""))
        if reply.status:
            self.send_response(reply.status)
            self.send_header("Content-Length", str(reply.length or len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

    def log_message(self, *_: Any) -> None:
        """Nothing on the test's stderr."""
