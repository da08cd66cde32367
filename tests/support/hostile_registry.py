"""A registry that says what a test wants, over TLS, and a node with a stand-in of `docker` that asks it.

Owns ports and threads of the loopback, and the node's folder. Used by tests/unit/test_roles_registry.py and test_roles_registry_run.py.
"""

import base64
import http.server
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

READ = Path(__file__).resolve().parents[2] / "roles" / "transformers" / "files" / "read.py"
PUSHED, OTHER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
RECIPE = "12" * 32
LOGIN = base64.b64encode(b"robot:word").decode()

Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the test says; what was asked, and with which login, is kept."""

    server: "Server"

    def do_HEAD(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
        self.server.answer(self)

    do_GET = do_HEAD

    def say(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on the test's stderr."""


class Server(http.server.ThreadingHTTPServer):
    """One origin, https on the loopback."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str]] = []
        self.answer: Answer = lambda request: request.say(404)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def logins(self) -> list[str]:
        return [login for _, _, login in self.asked if login]


def gives(digest: str) -> Answer:
    """A registry that says this digest of every tag."""
    return lambda request: request.say(200, Docker_Content_Digest=digest)


def certify(folder: Path) -> Path:
    """Make cert.pem and key.pem of the loopback in a folder."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=registry"
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return folder


class Node:
    """Where the reader runs: an engine with one image, a login."""

    def __init__(self, folder: Path, certificate: Path, registry: Server) -> None:
        self.repository, self.folder = f"{registry.name}/glm/serving", folder
        self.image: dict[str, Any] | None = {
            "Id": "sha256:" + "ef" * 32,
            "Config": {"Labels": {"glm-fleet.recipe": RECIPE}},
            "RepoDigests": [f"{self.repository}@{PUSHED}"],
        }
        self.known = self.accepted = ""
        (folder / ".docker").mkdir()
        (folder / ".docker" / "config.json").write_text(json.dumps({"auths": {registry.name: {"auth": LOGIN}}}))
        self.environment = {
            "PATH": f"{folder}:/usr/bin:/bin",
            "HOME": str(folder),
            "SSL_CERT_FILE": str(certificate / "cert.pem"),
        }

    def engine(self) -> None:
        """Write the stand-in of `docker`, which knows the image as it is now."""
        image = self.folder / "image.json"
        image.write_text(json.dumps([self.image])) if self.image else image.unlink(missing_ok=True)
        docker = self.folder / "docker"
        docker.write_text(
            f'#!/bin/sh\n[ "$1" = version ] && echo 29.0.1 && exit\n[ "$3" = base ] && exit 1\ncat {image}\n'
        )
        docker.chmod(0o755)

    def read(self) -> dict[str, Any]:
        """Return what the role's reader says."""
        self.engine()
        query = {
            "base": "base",
            "tag": f"{self.repository}:v1",
            "registry": self.repository,
            "recipe_label": "glm-fleet.recipe",
            "recipe": RECIPE,
            "known": self.known,
            "accepted": self.accepted,
        }
        ran = subprocess.run(
            [sys.executable, "-c", READ.read_text()],
            input=json.dumps(query),
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        seen: dict[str, Any] = json.loads(ran.stdout)
        return seen

    def message(self) -> str:
        """What the role says where the registry is not believed: tasks/registry.yml."""
        seen = self.read()
        assert seen["registry"] not in ("has it", "has it not", "none") and seen["image"] == ""
        return str(seen["registry"]).replace(f"https://{self.repository.partition('/')[0]}", "https://registry")
