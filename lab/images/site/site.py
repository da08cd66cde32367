"""Process 1 of a lab's site: the servers that a fleet uses on the internet, as *.lab.internal, on one address.

    packages.lab.internal   a signed apt archive with stand-ins for AMD's packages        port 80
    git.lab.internal        transformers.git over smart HTTP                              port 80
    hub.lab.internal        the models, in the protocol of Hugging Face's clients         port 80, over TLS 443
    archive.lab.internal    a mirror of the distributions' archives (for a sealed lab)      port 80
    registry.lab.internal   images, over TLS with the site's own authority                port 5000
    these names             for the pods of a cluster, which ask a name server            port 53 (UDP)

`site` serves all and writes /srv/site.json when everything listens. `site registry` serves only the registry, without TLS, for the
build of the lab's images. SIGUSR1 replaces the registry by one that answers 500, SIGUSR2 restores it.
Needs docker-registry, git, openssl, apt-utils, gpg. Started by lab/site.py.
"""

import functools
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import urllib.parse

import archive
import hub
import names
import packages
import registry

DOMAIN = "lab.internal"
FACTS = pathlib.Path("/srv/site.json")


class Request(http.server.SimpleHTTPRequestHandler):
    """A request, which the part of the site answers that its Host names."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0].removesuffix(f".{DOMAIN}")
        if host == "hub":
            hub.answer(self)
        elif host == "git":
            _git(self)
        elif host == "archive":
            archive.answer(self)
        elif host == "packages":
            # A mirror of AMD's has them below a release's path.
            self.path = re.sub(r"^/.*?/(?=(dists|pool)/)", "/", self.path)
            super().do_HEAD() if self.command == "HEAD" else super().do_GET()
        else:
            self.send_error(404, "no such host on this site")

    do_HEAD = do_POST = do_GET

    def log_message(self, form: str, *words: object) -> None:
        print(self.headers.get("Host", "-"), form % words, flush=True)


def _git(request: Request) -> None:
    """Pass a request to git http-backend, as a web server does (CGI)."""
    if "status" in (fault := hub.faults("git")):
        return request.send_error(int(fault["status"]))
    url = urllib.parse.urlsplit(request.path)
    options = {"safe.directory": "*", "uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true"}
    body = _chunks(request) if "chunked" in request.headers.get("Transfer-Encoding", "") else _plain(request)
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": "/srv/git",
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": re.sub(r"^/.*(?=/[^/]+\.git/)", "", url.path),  # a mirror has it below its owner's name
        "QUERY_STRING": url.query,
        "REQUEST_METHOD": request.command,
        "REMOTE_ADDR": request.client_address[0],
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "GIT_CONFIG_COUNT": str(len(options)),
    }
    for number, (key, value) in enumerate(options.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    out = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE).stdout
    head, _, data = out.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    request.send_response(int(headers.pop("Status", "200").split()[0]))
    for key, value in {**headers, "Content-Length": str(len(data))}.items():
        request.send_header(key, value)
    request.end_headers()
    request.wfile.write(data)
    return None


def _plain(request: Request) -> bytes:
    return request.rfile.read(int(request.headers.get("Content-Length") or 0))


def _chunks(request: Request) -> bytes:
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


def main() -> None:
    """Serve until the container stops."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    alone = sys.argv[1:] == ["registry"]
    images = registry.Registry(tls=not alone)
    facts = {}
    if not alone and FACTS.exists():  # a restart: keys and signatures exist
        facts = json.loads(FACTS.read_text())
        FACTS.unlink()
    elif not alone:
        key, fingerprint = packages.publish()
        commit = pathlib.Path("/srv/git/transformers.commit").read_text().strip()
        facts = {"authority": registry.authority(), "key": key, "fingerprint": fingerprint, "commit": commit}
    images.start()
    if alone:
        sys.exit(images.process.wait() if images.process else 1)
    signal.signal(signal.SIGUSR1, lambda *_: images.stop())
    signal.signal(signal.SIGUSR2, lambda *_: images.start())
    plain, over_tls = (_server(port) for port in (80, 443))
    over_tls.socket = registry.tls().wrap_socket(over_tls.socket, server_side=True, do_handshake_on_connect=False)
    for server in (over_tls, names.Server(DOMAIN)):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    FACTS.write_text(json.dumps(facts))
    plain.serve_forever()


def _server(port: int) -> http.server.ThreadingHTTPServer:
    return http.server.ThreadingHTTPServer(("", port), functools.partial(Request, directory="/srv/packages"))


if __name__ == "__main__":
    main()
