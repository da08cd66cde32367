"""HTTP servers on the loopback, for tests: a free port, a thread, a reply in one call; TLS with a certificate for 127.0.0.1.

Called by the servers of this folder and by tests that need one of their own.
"""

import http.server
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    """Replies in one call, and logs nothing."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole response; underscores in the headers' names become dashes."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class LoopbackServer(http.server.ThreadingHTTPServer):
    """Serves on a free port of the loopback until `close`; over TLS with a certificate, a PEM file that has its key, too."""

    def __init__(self, handler: Any, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.name = f"127.0.0.1:{self.server_port}"
        self.url = f"http{'s' if certificate else ''}://{self.name}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and free the port."""
        self.shutdown()
        self._thread.join()
        self.server_close()


def make_certificate(folder: Path, name: str = "server", addresses: str = "IP:127.0.0.1") -> Path:
    """Make folder/NAME.pem, a certificate for these subjectAltNames with its key; return the file."""
    file, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    options = ["-addext", f"subjectAltName={addresses}", "-keyout", str(key), "-out", str(file)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    file.write_text(file.read_text() + key.read_text())
    return file
