"""The site's image registry: docker-registry over TLS, with the site's own CA, whose certificate the hub has, too. For a test it can
answer 500.

Owns /srv/keys. Needs docker-registry and openssl. Called by site.py.
"""

import http.server
import os
import pathlib
import socket
import ssl
import subprocess
import threading
import time

HOSTS = ("registry.lab.internal", "hub.lab.internal")
KEYS = pathlib.Path("/srv/keys")
PORT = 5000


class Registry:
    """docker-registry, or in its place a server that answers 500."""

    def __init__(self, tls: bool) -> None:
        self.tls = tls
        self.process: subprocess.Popen[bytes] | None = None
        self.broken: http.server.ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Start docker-registry, and end the server in its place."""
        if self.broken:
            self.broken.shutdown()
            self.broken.server_close()
            self.broken = None
        settings = {
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/srv/registry",
            "REGISTRY_HTTP_ADDR": f":{PORT}",
            "REGISTRY_HTTP_SECRET": "one process, one secret",
            "REGISTRY_LOG_LEVEL": "warn",
            "OTEL_TRACES_EXPORTER": "none",
        }
        if self.tls:
            settings |= {
                "REGISTRY_HTTP_TLS_CERTIFICATE": str(KEYS / "site.crt"),
                "REGISTRY_HTTP_TLS_KEY": str(KEYS / "site.key"),
            }
        config = pathlib.Path("/run/registry.yml")
        config.write_text("version: 0.1\nstorage: {filesystem: {}, delete: {enabled: true}}\nhttp: {}\n")
        self.process = subprocess.Popen(["docker-registry", "serve", config], env={**os.environ, **settings})
        while self.process.poll() is None and not _listens():
            time.sleep(0.1)

    def stop(self) -> None:
        """Replace docker-registry by a server that answers 500."""
        if self.process:
            self.process.terminate()
            self.process.wait()

        class Broken(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(500)

            do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

        self.broken = http.server.ThreadingHTTPServer(("", PORT), Broken)
        self.broken.socket = tls().wrap_socket(self.broken.socket, server_side=True)
        threading.Thread(target=self.broken.serve_forever, daemon=True).start()


def _listens() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def tls() -> ssl.SSLContext:
    """Return a server's TLS with the site's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(KEYS / "site.crt", KEYS / "site.key")
    return context


def authority() -> str:
    """Make the site's CA and its one certificate. Return the CA's certificate."""
    KEYS.mkdir(mode=0o700)
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"]

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=KEYS, check=True, capture_output=True)

    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=Lab authority")
    names = ["-subj", f"/CN={HOSTS[0]}", "-addext", f"subjectAltName={','.join(f'DNS:{host}' for host in HOSTS)}"]
    openssl("req", "-x509", *new, "-keyout", "site.key", "-out", "site.crt", *names, "-CA", "ca.crt", "-CAkey", "ca.key",
            "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
    return (KEYS / "ca.crt").read_text()
