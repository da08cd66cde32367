"""Runs on a lab node, as root: stand-ins for vLLM servers, one on each unix socket of the command line. Stdlib only.

`python3 standin_replica.py USER GROUP KEY SOCKET…`: makes each socket as the role vllm does, its folder for GROUP alone. Answers /health
to anybody, the rest with KEY only: /v1/models; a completion with {replica, bytes: of its body}; with "stream" so many tokens of "tokens",
each "pause" seconds after the last, that carry the time at which they were sent. Called by tests/roles/test_gateway.py.
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
    running = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

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
            self.answer(200, replica=self.server.server_address, bytes=len(body), headers=dict(self.headers))

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
        for number in range(request["tokens"]):
            time.sleep(request["pause"])
            token = f"data: {json.dumps({'token': number, 'sent': time.time()})}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(token), token))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def listen(path: pathlib.Path, user: int, group: str) -> Server:
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
    threads = [threading.Thread(target=listen(pathlib.Path(path), int(user), group).serve_forever) for path in sockets]
    for thread in threads:
        thread.start()
