"""An API server of a test's own words, over TLS: it answers each path with what the test has put there, and keeps the requests.

Used by the tests of fleet/cluster that need a wrong, a strange or a broken answer; the real one is api_server.py.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.support.http_server import Handler, LoopbackServer, make_certificate

CONTEXT = "prod"
TOKEN = "a-token-of-the-test"


class ScriptedApi(LoopbackServer):
    """`answers` has status and body by path, or a function that sends the answer itself; `asked` are the requests so far."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, tuple[int, Any] | Callable[[Handler], None]] = {}
        self.asked: list[str] = []
        self.tokens: list[str] = []
        certificate = make_certificate(folder)
        super().__init__(_Answers, certificate)
        self.kubeconfig = folder / "kubeconfig"
        self.write(certificate)

    def write(self, certificate: Path, **cluster: Any) -> None:
        """Write the kubeconfig, with the authority of the certificate."""
        authority = base64.b64encode(certificate.read_bytes().partition(b"-----BEGIN EC")[0]).decode()
        own = {"server": self.url, "certificate-authority-data": authority, **cluster}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "",
            "clusters": [{"name": "c", "cluster": own}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": "c", "user": "u"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(content))

    def page(self, path: str, *items: Any) -> None:
        """Answer with a collection."""
        self.answers[path] = (200, {"kind": "List", "metadata": {}, "items": list(items)})


class _Answers(Handler):
    server: ScriptedApi

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(self.path)
        self.server.tokens.append(self.headers.get("Authorization", ""))
        answer = self.server.answers.get(path, (404, {"kind": "Status", "reason": "NotFound", "message": f"no {path}"}))
        if callable(answer):
            answer(self)
            return
        status, body = answer
        self.reply(
            status, body if isinstance(body, bytes) else json.dumps(body).encode(), Content_Type="application/json"
        )

    do_PATCH = do_POST = do_GET
