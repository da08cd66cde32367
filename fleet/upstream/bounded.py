"""Sends one HTTP request to an untrusted server: limited in bytes and seconds, redirected only within the same origin.

Needs httpx (imported when called); verifies certificates against this machine's trust store (SSL_CERT_FILE replaces it).
Called by registry and hub; git uses only `printable`.
"""

import asyncio
import json
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet import errors

if TYPE_CHECKING:
    import httpx

SECONDS = 30.0  # for one request with its redirects, to the last byte
BYTES = 8 << 20  # of a body; the hub's answer lists every file of a model
REDIRECTS = 3
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Answer:
    """Status, headers (names in lower case) and body of an answer, all unchecked."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body parsed as JSON, None where it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


def ask(doing: str, method: str, url: str, headers: Mapping[str, str], seconds: float = SECONDS) -> Answer:
    """Return the answer. Raises FleetError, with `doing`: no answer in time, body too long, redirect to another host, untrusted certificate."""
    import httpx

    try:
        # Our own event loop: it does not replace Pulumi's in this thread.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
            return loop.run(_ask(doing, method, url, headers, seconds))
    except (TimeoutError, httpx.TimeoutException) as cause:
        raise error(doing, f"no complete answer within {seconds:.0f} s", f"an answer of {host(url)}") from cause
    except httpx.TransportError as cause:
        if "CERTIFICATE_VERIFY_FAILED" in str(cause):
            seen = f"no authority that this machine trusts has signed the certificate of {host(url)}"
            raise error(doing, seen, "a trusted certificate", "SSL_CERT_FILE=FILE names other authorities") from cause
        raise error(doing, f"no connection to {host(url)}", "a server that this machine can reach") from cause
    except (httpx.InvalidURL, httpx.DecodingError) as cause:
        raise error(doing, f"{host(url)} gives an answer that is not HTTP as we asked for it", "HTTP") from cause


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL; ("", "", 0) for a text that is no URL."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return "", "", 0


def host(url: str) -> str:
    """Return HOST:PORT of a URL, safe to print."""
    _, name, port = origin(url)
    return printable(f"{name}:{port}" if name else "a URL without a host")


def printable(text: str, most: int = 120) -> str:
    """Return a server's text on one line without control characters, cut after `most` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * most]).split())
    return line if len(line) <= most else f"{line[:most]}…"


async def _ask(doing: str, method: str, url: str, headers: Mapping[str, str], seconds: float) -> Answer:
    import httpx

    headers = {"Accept-Encoding": "identity", **headers}
    async with asyncio.timeout(seconds), httpx.AsyncClient(verify=ssl.create_default_context()) as client:
        for _ in range(REDIRECTS + 1):
            async with client.stream(method, url, headers=headers, follow_redirects=False) as answer:
                if not answer.is_redirect:
                    return Answer(answer.status_code, dict(answer.headers), await _body(doing, answer))
                location = urllib.parse.urljoin(url, answer.headers["Location"])
            if origin(location) != origin(url):
                seen = f"{host(url)} redirects to {host(location)}"
                raise error(doing, seen, "an answer of the server that was asked")
            url = location
    raise error(doing, f"{host(url)} redirects more than {REDIRECTS} times", "an answer")


async def _body(doing: str, answer: "httpx.Response") -> bytes:
    """Return the raw body, not decompressed: a compressed one could unpack to any length."""
    body = b""
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > BYTES:
            raise error(doing, f"{host(str(answer.url))} sends more than {BYTES >> 20} MiB", "a short answer")
    return body


def error(doing: str, seen: str, wanted: str, todo: str = "") -> errors.FleetError:
    """Return the error for an answer that is of no use."""
    return errors.FleetError(
        doing=doing, seen=seen, wanted=wanted, next=todo or "try again, or write the pinned name into the stack file"
    )
