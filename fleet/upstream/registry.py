"""Resolves an image's tag to its digest at a registry, with the credentials of this machine's Docker configuration.

Speaks the necessary part of the distribution protocol: one HEAD, a challenge, a token. Sends the login only to the registry itself and to a
token service that belongs to it (reference.own_service). Called by `fleet.cli.pin`.
"""

import base64
import binascii
import json
import os
import re
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any

from fleet import validators
from fleet.upstream import bounded, reference

TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,16384}")
# Docker Hub: its name in images, the host of its API, the name under which `docker login` stores its login.
HUB, HUB_API, HUB_LOGIN = "docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"
HELPER_SECONDS = 20.0
WRITE = "write REGISTRY/NAME@sha256:DIGEST into the stack file"


def exists(image: str) -> bool:
    """Return whether the registry has REGISTRY/NAME:TAG or REGISTRY/NAME@DIGEST.

    Raises FleetError: no registry in the name, credentials refused, no valid answer.
    """
    doing, name, at, digest = f"look for {image}", *image.partition("@")
    parts = reference.TAGGED.fullmatch(f"{name}:none" if at else image)
    if not parts or (at and not re.fullmatch(validators.DIGEST, digest)):
        raise bounded.error(doing, "its name has no registry, or neither tag nor digest", "REGISTRY/NAME:TAG")
    answer = _ask(doing, parts["registry"], parts["name"], digest or parts["tag"])
    if answer.status not in (200, 404):
        refused = answer.status in (401, 403)
        todo = f"`docker login {parts['registry']}` on this machine" if refused else "try again"
        raise bounded.error(
            doing, f"{answer.status} from the registry", "an image, or the answer that it has none", todo
        )
    return answer.status == 200


def digest(image: str) -> str:
    """Return the current digest, sha256:…, of the tag in REGISTRY/NAME:TAG.

    Raises FleetError: no registry or no tag in the name, no such image, credentials refused, no valid answer.
    """
    doing, parts = f"look for the digest of {image}", reference.TAGGED.fullmatch(image)
    if not parts or not re.search(r"[.:]|^localhost$", parts["registry"]):
        raise bounded.error(doing, "its name has no registry, or no tag", "REGISTRY/NAME:TAG", f"name both, or {WRITE}")
    answer = _ask(doing, parts["registry"], parts["name"], parts["tag"])
    if answer.status in (401, 403):
        todo = f"`docker login {parts['registry']}` on this machine, or {WRITE}"
        raise bounded.error(doing, "the registry refuses us", "credentials that may pull it", todo)
    if answer.status == 404:
        todo = "look at its tags; a private one may need `docker login`"
        raise bounded.error(doing, "the registry has no such image", "an image that exists", todo)
    if answer.status != 200:
        raise bounded.error(doing, f"{answer.status} from the registry", "a digest", f"try again, or {WRITE}")
    content_digest = answer.headers.get("docker-content-digest", "")
    if not re.fullmatch(validators.DIGEST, content_digest):
        seen = f"the registry answers with the digest {bounded.printable(content_digest)!r}"
        raise bounded.error(doing, seen if content_digest else "an answer without a digest", "sha256:<64 hex>", WRITE)
    return content_digest


def _ask(doing: str, registry: str, name: str, tag: str) -> bounded.Answer:
    """Return the registry's answer for the tag; if it asks for credentials, its answer with them."""
    path = f"library/{name}" if registry == HUB and "/" not in name else name
    url = f"https://{HUB_API if registry == HUB else registry}/v2/{path}/manifests/{tag}"
    headers = {"Accept": ", ".join(TYPES)}
    answer = bounded.ask(doing, "HEAD", url, headers)
    if answer.status != 401:
        return answer
    credentials = _authorization(doing, url, answer.headers.get("www-authenticate", ""), registry)
    if not credentials:
        return answer
    return bounded.ask(doing, "HEAD", url, {**headers, "Authorization": credentials})


def _authorization(doing: str, url: str, challenge: str, registry: str) -> str:
    """Return the Authorization header for a challenge: the login itself, or a token of the token service; "" for none."""
    login = _login(registry)
    basic = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
    if not challenge.lower().startswith("bearer "):
        return basic
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.get("realm", "")
    if not reference.own_service(HUB_API if registry == HUB else registry, realm):
        seen = f"the registry sends us for a token to {bounded.host(realm)}"
        raise bounded.error(doing, seen, f"a token service of {bounded.host(url)}, over https", WRITE)
    query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
    answer = bounded.ask(doing, "GET", f"{realm}?{query}", {"Authorization": basic} if basic else {})
    token = _token(answer.json()) if answer.status == 200 else ""
    return f"Bearer {token}" if token else ""


def _token(answer: Any) -> str:
    """Return the token in the answer of a token service, "" without one of the right form."""
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    return token if isinstance(token, str) and TOKEN.fullmatch(token) else ""


def _login(registry: str) -> str:
    """Return USER:PASSWORD that `docker login` stored for a registry, in Docker's file or in the helper that the file names; "" for none."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    key = HUB_LOGIN if registry == HUB else registry
    try:
        config = json.loads((folder / "config.json").read_text())
    except (FileNotFoundError, ValueError):
        return ""
    helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
    if helper:
        command = [f"docker-credential-{helper}", "get"]
        try:
            answer = subprocess.run(
                command, input=key, capture_output=True, text=True, timeout=HELPER_SECONDS, check=True
            )
            login = json.loads(answer.stdout)
        except (OSError, subprocess.SubprocessError, ValueError):
            return ""
        return f"{login['Username']}:{login['Secret']}"
    auth = ((config.get("auths") or {}).get(key) or {}).get("auth", "")
    try:
        return base64.b64decode(auth).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
