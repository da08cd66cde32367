"""A way to a server on the loopback that a test can cut and mend, and two servers that an API server asks: a webhook and a kubelet.

Used by tests/kubernetes.
"""

import base64
import contextlib
import json
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any

from tests.support.http_server import Handler, LoopbackServer, make_certificate


class Way(socketserver.ThreadingTCPServer):
    """Passes connections on to a port. While it is cut it closes each at once, also those that were open."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        self.target, self.whole = target, True
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Passage)
        self.port: int = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close every connection, and all that come."""
        self.whole = False
        for each in list(self.open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Pass connections on again."""
        self.whole = True

    def close(self) -> None:
        """Stop, and free the port."""
        self.cut()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Passage(socketserver.BaseRequestHandler):
    server: Way

    def handle(self) -> None:
        if not self.server.whole:
            return
        with socket.create_connection(("127.0.0.1", self.server.target)) as target:
            self.server.open |= {self.request, target}
            back = threading.Thread(target=_copy, args=(target, self.request), daemon=True)
            back.start()
            _copy(self.request, target)
            back.join()
            self.server.open -= {self.request, target}


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Webhook(LoopbackServer):
    """Refuses everything with these words. `authority` is its certificate, as the API server wants it."""

    def __init__(self, folder: Path, words: str) -> None:
        self.words = words
        certificate = make_certificate(folder, "webhook")
        self.authority = certificate.read_bytes().partition(b"-----BEGIN EC")[0]
        super().__init__(_Refusal, certificate)

    def configuration(self, namespace: str) -> dict[str, Any]:
        """Return the object with which an API server asks it about each new pod of a namespace."""
        pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        hook = {
            "name": "images.example.com",
            "clientConfig": {"url": f"{self.url}/", "caBundle": base64.b64encode(self.authority).decode()},
            "rules": [pods],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
        return {**kind, "metadata": {"name": namespace}, "webhooks": [hook]}


class _Refusal(Handler):
    server: Webhook

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"uid": review["request"]["uid"], "allowed": False, "status": {"message": self.server.words}}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": answer})
        self.reply(200, body.encode(), Content_Type="application/json")


class KubeletLogs(LoopbackServer):
    """A kubelet that has only logs: the same text for each container; `asked` are the paths."""

    def __init__(self, folder: Path, text: str) -> None:
        self.text, self.asked = text, list[str]()
        super().__init__(_Logs, make_certificate(folder, "kubelet"))


class _Logs(Handler):
    server: KubeletLogs

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.reply(200, self.server.text.encode(), Content_Type="text/plain")
