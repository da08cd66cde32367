"""What a tag names now: the digest that a registry gives for it, with the credentials of this machine's Docker configuration.

Speaks the part of the distribution protocol that this takes: one HEAD, a challenge, a token. A registry may say anything: what it says counts
in its form alone (reference.py), a redirect is followed within its own origin, and a login goes to its own token service. Needs httpx (imported when called), the
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
from fleet.machine import reference

if TYPE_CHECKING:
    import httpx

TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
TIMEOUT = 20.0  # seconds for each answer
LARGEST = 1 << 16  # bytes of a token service's answer
HOPS = 3  # redirects


def pinned(image: str) -> str:
    """Return REGISTRY/NAME@sha256:… of what the tag names now; an image that has a digest comes back as it is, and nobody is asked.

    Raises FleetError: no such image, no credentials that the registry accepts, no registry, no registry in the image's name.
    """
    if reference.PINNED.fullmatch(image):
        return image
    told = reference.TAGGED.fullmatch(image)
    if not told or not re.search(r"[.:]|^localhost$", told["registry"]):
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
    if answer.status_code != 200 or not re.fullmatch(reference.DIGEST, digest):
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
        with httpx.Client(verify=ssl.create_default_context(), timeout=TIMEOUT) as client:
            answer = _within(client, image, "HEAD", url, headers)
            if answer.status_code == 401 and (
                who := _authorization(client, image, answer.headers.get("WWW-Authenticate", ""), registry)
            ):
                answer = _within(client, image, "HEAD", url, {**headers, "Authorization": who})
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


def _within(client: "httpx.Client", image: str, method: str, url: str, headers: dict[str, str]) -> "httpx.Response":
    """Return an answer, after redirects within one origin; of its body no more than LARGEST bytes. Raises FleetError for another origin."""
    import httpx

    for _ in range(HOPS):
        with client.stream(method, url, headers={**headers, "Accept-Encoding": "identity"}) as answer:
            location = answer.headers.get("Location", "")
            if answer.is_redirect and location:
                after = httpx.URL(url).join(location)
                if (after.scheme, after.netloc) != (answer.url.scheme, answer.url.netloc):
                    seen = f"{answer.status_code} from the registry, which sends us to another host"
                    raise _error(
                        image, seen, "an answer of the registry itself", "write the digest into the stack file"
                    )
                url = str(after)
                continue
            body = b""
            for part in answer.iter_raw(LARGEST):
                body += part
                if len(body) > LARGEST:
                    seen = f"more than {LARGEST} bytes from the registry"
                    raise _error(image, seen, "a token", "write the digest into the stack file")
            return httpx.Response(answer.status_code, headers=_plain(answer.headers), content=body)
    raise _error(image, f"{HOPS} redirects, and no end", "an answer", "write the digest into the stack file")


def _plain(headers: "httpx.Headers") -> dict[str, str]:
    """Return the headers that are read here."""
    return {name: headers[name] for name in ("Docker-Content-Digest", "WWW-Authenticate") if name in headers}


def _authorization(client: "httpx.Client", image: str, challenge: str, registry: str) -> str:
    """Return the header that answers a challenge: the login itself, or the token that its service gives for it; "" for none."""
    import httpx

    login = _login(registry)
    basic = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
    if not challenge.lower().startswith("bearer "):
        return basic
    told = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not reference.own_service(registry, told.get("realm", "")):
        seen = "401 from the registry, whose token service would be on another host"
        wanted = "a token service of the registry's own domain, over https: the login goes there"
        raise _error(image, seen, wanted, "write the digest into the stack file: then nobody is asked")
    asked = {key: told[key] for key in ("service", "scope") if key in told}
    url = str(httpx.URL(told["realm"]).copy_with(query=None).copy_merge_params(asked))
    answer = _within(client, image, "GET", url, {"Authorization": basic} if basic else {})
    try:
        found = answer.json() if answer.status_code == 200 else None
    except (ValueError, RecursionError):
        return ""
    given = (found.get("token") or found.get("access_token")) if isinstance(found, dict) else None
    return f"Bearer {given}" if isinstance(given, str) and re.fullmatch(r"[!-~]+", given) else ""


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
