"""Runs on a lab node, as root: stand-ins for vLLM servers, one on each unix socket of the command line. Stdlib only.

`python3 standin_replica.py USER GROUP KEY SOCKET…`: makes each socket as the role vllm does, its folder for GROUP alone; a number is a port of
the loopback. Answers /health to anybody, the rest with KEY only: /v1/models; a completion with {replica, bytes: of its body}; with "stream"
so many tokens of "tokens", each "pause" seconds after the last, that carry the time at which they were sent. Both also have what a client of
OpenAI's API reads, and a stream by "max_tokens" has its end. Called by tests/roles/test_gateway.py, tests/bench/endpoint.py.
"""

import grp
import http.server
import json
import os
import pathlib
import socketserver
import sys
import threading
import time


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class TCPServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server | TCPServer

    def address_string(self) -> str:
        return "proxy"

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(200)
        elif self.is_allowed():
            self.answer(200, data=[{"id": "stand-in", "replica": self.server.server_address}])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.is_allowed():
            return
        request = json.loads(body)
        if request.get("stream"):
            self.stream(request)
        else:
            time.sleep(request.get("pause", 0))
            own = {"replica": self.server.server_address, "bytes": len(body), "headers": dict(self.headers)}
            self.answer(200, **own, **completion(request, "stop", "a word"))

    def is_allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {KEY}":
            return True
        self.answer(401, error="another key")
        return False

    def answer(self, status: int, **content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, request: dict) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        tokens = request.get("tokens", request.get("max_tokens"))
        for number in range(tokens):
            time.sleep(request.get("pause", 0))
            sent = time.time()
            self.event({"token": number, "sent": sent, **completion(request, None, f"{sent} ")})
        if "max_tokens" in request:
            self.event({**completion(request, "length", ""), "usage": usage(tokens)})
            self.chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, content: dict) -> None:
        self.chunk(f"data: {json.dumps(content)}\n\n".encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class TCPHandler(Handler):
    disable_nagle_algorithm = True


def usage(tokens: int) -> dict:
    return {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}


def completion(request: dict, reason: str | None, text: str) -> dict:
    """Return an answer, or a part of a stream, as OpenAI's API has it; `text` is both a chat's and a completion's."""
    stream, word = request.get("stream"), {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": reason, "text": text, "delta" if stream else "message": word}
    kind = f"chat.completion{'.chunk' if stream else ''}"
    own = {"id": "a", "object": kind, "created": 0, "model": request.get("model", ""), "choices": [choice]}
    return own if stream else {**own, "usage": usage(1)}


def listen(place: str, user: int, group: str) -> Server | TCPServer:
    if place.isdecimal():
        return TCPServer(("127.0.0.1", int(place)), TCPHandler)
    path = pathlib.Path(place)
    number = grp.getgrnam(group).gr_gid
    path.parent.mkdir(parents=True, exist_ok=True)
    os.chown(path.parent, user, number)
    path.parent.chmod(0o2750)
    path.unlink(missing_ok=True)
    server = Server(str(path), Handler)
    os.chown(path, user, number)
    path.chmod(0o770)
    return server


if __name__ == "__main__":
    user, group, KEY, *sockets = sys.argv[1:]
    threads = [threading.Thread(target=listen(path, int(user), group).serve_forever) for path in sockets]
    for thread in threads:
        thread.start()
