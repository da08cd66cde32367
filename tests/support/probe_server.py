"""A server for the probes' runner: real HTTP on the loopback, with the answers of vLLM or of a test.

Used by tests/unit/test_probes_runner.py and tests/unit/test_pod_programs.py.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any

from tests.support import http_server


@dataclass
class Reply:
    """A response; a length other than that of the content breaks it off."""

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
    """Answers every request with the reply of `model` (body, Authorization); keeps the paths and the bodies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model: Model = lambda body, key: whole(content="hello")
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.health = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http_server.Handler):
    server: Server

    def do_GET(self) -> None:
        self.reply(self.server.health if self.path == "/health" else 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        reply = self.server.model(body, self.headers.get("Authorization", ""))
        if reply.status:
            self.reply(reply.status, reply.content, Content_Length=str(reply.length or len(reply.content)))
