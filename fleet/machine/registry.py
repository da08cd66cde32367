"""What a tag names now: the digest that a registry gives for it, with the credentials of this machine's Docker configuration.

Speaks the part of the distribution protocol that this takes: one HEAD, a challenge, a token. Needs httpx (imported when called), the
registry, and its certificate among those that this machine trusts (SSL_CERT_FILE names others). Called by the provider's Image, at preview.
"""

import base64
import json
import os
import re
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import errors

if TYPE_CHECKING:
    import httpx

TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
TIMEOUT = 20.0  # seconds for each answer
PINNED = re.compile(r"@sha256:[0-9a-f]{64}$")
FOUND = re.compile(r"^sha256:[0-9a-f]{64}$")
TAGGED = re.compile(r"^(?P<registry>[^/]+[.:][^/]*|localhost)/(?P<name>.+):(?P<tag>[\w.-]+)$")


def pinned(image: str) -> str:
    """Return REGISTRY/NAME@sha256:… of what the tag names now; an image that has a digest comes back as it is, and nobody is asked.

    Raises FleetError: no such image, no credentials that the registry accepts, no registry, no registry in the image's name.
    """
    if PINNED.search(image):
        return image
    if not (told := TAGGED.match(image)):
        raise _error(
            image, "its name has no registry, or no tag", "REGISTRY/NAME:TAG", "write the registry's host before it"
        )
    answer = _ask(image, **told.groupdict())
    if answer.status_code in (401, 403):
        todo = f"`docker login {told['registry']}` on this machine"
        raise _error(image, "the registry refuses us", "credentials that may pull it", todo)
    if answer.status_code == 404:
        todo = "look at its tags; a private one may need `docker login`"
        raise _error(image, "the registry has no such image", "an image that is there", todo)
    digest = answer.headers.get("Docker-Content-Digest", "")
    if answer.status_code != 200 or not FOUND.match(digest):
        seen = (
            f"{answer.status_code} from the registry" if answer.status_code != 200 else "the registry tells no digest"
        )
        raise _error(image, seen, "a digest", "try again, or write the digest into the stack file")
    return f"{told['registry']}/{told['name']}@{digest}"


def _ask(image: str, registry: str, name: str, tag: str) -> "httpx.Response":
    """Return the registry's answer for the tag; where it asks who we are, after telling it."""
    import httpx

    url = f"https://{registry}/v2/{name}/manifests/{tag}"
    headers = {"Accept": ", ".join(TYPES)}
    try:
        with httpx.Client(verify=ssl.create_default_context(), timeout=TIMEOUT, follow_redirects=True) as client:
            answer = client.head(url, headers=headers)
            if answer.status_code == 401 and (
                who := _authorization(client, answer.headers.get("WWW-Authenticate", ""), registry)
            ):
                answer = client.head(url, headers={**headers, "Authorization": who})
            return answer
    except httpx.TimeoutException as error:
        todo = "write the digest into the stack file: then nobody is asked"
        raise _error(image, f"no answer within {TIMEOUT:.0f} s", "the registry, from this machine", todo) from error
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            seen, todo = (
                "its certificate is signed by nobody that this machine trusts",
                "SSL_CERT_FILE=FILE names other authorities",
            )
            raise _error(image, seen, "a trusted certificate", todo) from error
        todo = "write the digest into the stack file: then nobody is asked"
        raise _error(image, "the registry cannot be reached", "the registry, from this machine", todo) from error


def _authorization(client: "httpx.Client", challenge: str, registry: str) -> str:
    """Return the header that answers a challenge: the login itself, or the token that its service gives for it; "" for none."""
    login = _login(registry)
    basic = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
    if not challenge.lower().startswith("bearer "):
        return basic
    told = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if "realm" not in told:
        return ""
    asked = {key: told[key] for key in ("service", "scope") if key in told}
    answer = client.get(told["realm"], params=asked, headers={"Authorization": basic} if basic else {})
    if answer.status_code != 200:
        return ""
    found = answer.json()
    return f"Bearer {found.get('token') or found.get('access_token')}"


def _login(registry: str) -> str:
    """Return USER:WORD for a registry, as `docker login` left it: in Docker's file, or with the helper that the file names."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        told = json.loads((folder / "config.json").read_text())
    except (FileNotFoundError, ValueError):
        return ""
    helper = (told.get("credHelpers") or {}).get(registry) or told.get("credsStore")
    if helper:
        command = [f"docker-credential-{helper}", "get"]
        try:
            found = subprocess.run(command, input=registry, capture_output=True, text=True, timeout=TIMEOUT, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        known = json.loads(found.stdout)
        return f"{known['Username']}:{known['Secret']}"
    auth = ((told.get("auths") or {}).get(registry) or {}).get("auth", "")
    return base64.b64decode(auth).decode()


def _error(image: str, seen: str, wanted: str, todo: str) -> errors.FleetError:
    return errors.FleetError(doing=f"look for the digest of {image}", seen=seen, wanted=wanted, next=todo)
