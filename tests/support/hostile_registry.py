"""A registry over TLS that answers as a test says, and a node with a stand-in of `docker` that asks it.

Owns the node's folder. Used by tests/unit/test_roles_registry.py and test_roles_registry_run.py.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import http_server
from tests.support.programs import write_program

READ = Path(__file__).resolve().parents[2] / "roles" / "transformers" / "files" / "read.py"
PUSHED, OTHER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
RECIPE = "12" * 32
LOGIN = base64.b64encode(b"robot:word").decode()

Answer = Callable[["Handler"], None]


class Handler(http_server.Handler):
    """Answers as the test says; keeps each request with its login."""

    server: "Server"

    def do_HEAD(self) -> None:
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
        self.server.answer(self)

    do_GET = do_HEAD


class Server(http_server.LoopbackServer):
    """One origin, https on the loopback."""

    def __init__(self, certificate: Path) -> None:
        self.requests: list[tuple[str, str, str]] = []
        self.answer: Answer = lambda request: request.reply(404)
        super().__init__(Handler, certificate)

    def logins(self) -> list[str]:
        return [login for _, _, login in self.requests if login]


def answer_digest(digest: str) -> Answer:
    """Return the answer of a registry that has this digest for every tag."""
    return lambda request: request.reply(200, Docker_Content_Digest=digest)


def certify(folder: Path) -> Path:
    """Make a certificate of the loopback, under its address and its name."""
    return http_server.make_certificate(folder, addresses="IP:127.0.0.1,DNS:localhost")


class Node:
    """The reader's node: a Docker daemon with one image, a login."""

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
        path = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder)}
        self.environment = {**path, "SSL_CERT_FILE": str(certificate)}

    def engine(self) -> None:
        """Write the stand-in of `docker`, which knows the image as it is now."""
        image = self.folder / "image.json"
        image.write_text(json.dumps([self.image])) if self.image else image.unlink(missing_ok=True)
        script = f'[ "$1" = version ] && echo 29.0.1 && exit\n[ "$3" = base ] && exit 1\ncat {image}'
        write_program(self.folder / "docker", script)

    def read(self) -> dict[str, Any]:
        """Return the output of the role's reader."""
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
        command = [sys.executable, "-c", READ.read_text()]
        run = subprocess.run(
            command,
            input=json.dumps(query),
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        output: dict[str, Any] = json.loads(run.stdout)
        return output

    def message(self) -> str:
        """Return the role's message where it does not believe the registry: tasks/registry.yml."""
        output = self.read()
        assert output["registry"] not in ("has it", "has it not", "none") and output["image"] == ""
        return str(output["registry"]).replace(f"https://{self.repository.partition('/')[0]}", "https://registry")
