"""Requests to the API server of one cluster: bounded in bytes and seconds, each reply checked by a form.

Needs the Kubernetes client for credentials and connections (kubeconfig.py). Called by the other files of this folder, which know what they
ask for; forward.py opens its own connections.
"""

import json
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet import errors, printable
from fleet.cluster import kubeconfig
from fleet.cluster.forms import ANY, WORDS
from fleet.cluster.kubeconfig import Access
from fleet.validators import Each, Form, Record

if TYPE_CHECKING:
    import urllib3
    from kubernetes import client

SECONDS = 30.0  # for a whole reply
CONNECT = 10.0
BYTES = 64 << 20  # of a reply; a page of 500 pods has 5 MB
PAGE, PAGES = 500, 200
RETRIES = 5  # of a request that a busy server puts off
MANAGER = "glm-fleet"  # of the fields that our requests set
BUSY = (429, 503, 504)
PAGE_FORM = Record({"items": Each(ANY, most=PAGE)}, {"metadata": ANY}, open=True)
STATUS = Record({}, {"message": WORDS, "reason": WORDS}, open=True)
WARNING = re.compile(r'299 \S{1,80} "((?:[^"\\]|\\.)*)"')  # RFC 7234


@dataclass(frozen=True)
class Reply:
    """One reply: `later` are the seconds after which a busy server wants to be asked again, `warnings` its words beside the body."""

    status: int
    body: bytes
    later: float
    warnings: Sequence[str] = ()


class Cluster:
    """One cluster through one context of a kubeconfig. `cancelled` ends waits between requests."""

    def __init__(self, access: Access, cancelled: threading.Event | None = None) -> None:
        self.access = access
        self.cancelled = cancelled or threading.Event()
        self.configuration, self.tls = kubeconfig.load(access)
        self._pool = _pool(self.configuration, self.tls)

    @property
    def name(self) -> str:
        """Its name in messages: the context."""
        return self.access.context

    def credentials(self) -> dict[str, str]:
        """Return the header with the credentials, renewed if they have an end; {} for a user with a certificate alone."""
        token = self.configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": token} if token else {}

    def get(self, doing: str, path: str, form: Form, **query: str) -> Any:
        """Return an object. Raises ClusterRefused, also for one that does not exist."""
        return self._checked(doing, self.request(doing, "GET", path, query=query), form)

    def find(self, doing: str, path: str, form: Form, **query: str) -> Any:
        """Return an object, None where it does not exist."""
        try:
            return self.get(doing, path, form, **query)
        except errors.ClusterRefused as error:
            if error.code == 404:
                return None
            raise

    def list(self, doing: str, path: str, form: Form, **query: str) -> Iterator[Any]:
        """Yield the objects of a collection, page by page."""
        after = ""
        for _ in range(PAGES):
            page = {"limit": str(PAGE), **query, **({"continue": after} if after else {})}
            content = self._checked(doing, self.request(doing, "GET", path, query=page), PAGE_FORM)
            for item in content["items"]:
                yield self._checked(doing, item, form)
            after = str((content.get("metadata") or {}).get("continue") or "")
            if not after:
                return
        raise self.malformed(doing, "", f"more than {PAGE * PAGES} objects", "fewer")

    def send(self, doing: str, method: str, path: str, body: Any, form: Form, kind: str = "json", **query: str) -> Any:
        """Change something; `kind` is the end of the body's type, as merge-patch+json. Return the reply. Raises ClusterRefused."""
        return self._checked(doing, self.request(doing, method, path, body, kind, query), form)

    def once(self, doing: str, method: str, path: str, body: Any) -> None:
        """Change something, and take a busy server's word for an answer. Raises ClusterRefused."""
        self._answer(doing, method, path, body, "json", {"fieldManager": MANAGER}, tries=1)

    def judge(self, doing: str, method: str, path: str, body: Any, kind: str = "json", **query: str) -> Sequence[str]:
        """Let the server judge a change that it does not make; return its warnings, printable. Raises ClusterRefused with its reason."""
        return self._answer(doing, method, path, body, kind, {**query, "dryRun": "All"}).warnings

    def text(self, doing: str, path: str, most: int, **query: str) -> str:
        """Return a reply that is text, such as the log of a container, printable and cut after `most` bytes."""
        body = self._answer(doing, "GET", path, None, "json", query).body
        return printable.plain(body[:most].decode(errors="replace"))

    def request(
        self, doing: str, method: str, path: str, body: Any = None, kind: str = "json", query: Mapping[str, str] = {}
    ) -> Any:
        """Return the reply as JSON, its form unchecked. Raises ClusterUnreachable and ClusterRefused."""
        reply = self._answer(doing, method, path, body, kind, query)
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError) as cause:
            raise self.malformed(doing, "", "no JSON", "an object") from cause

    def malformed(self, doing: str, at: str, seen: str, wanted: str) -> errors.OutputMalformed:
        """Return the error for a reply of a wrong form."""
        return errors.OutputMalformed(
            node=self.name,
            doing=doing,
            seen=f"{at}: {seen}" if at else seen,
            wanted=wanted,
            next=f"is {printable.short(self.configuration.host)} an API server? {self.access.kubectl('version')}",
        )

    def _checked(self, doing: str, content: Any, form: Form) -> Any:
        if mistake := form.mistake(content, ""):
            raise self.malformed(doing, mistake.at, mistake.seen, mistake.wanted)
        return content

    def _answer(
        self, doing: str, method: str, path: str, body: Any, kind: str, query: Mapping[str, str], tries: int = RETRIES
    ) -> Reply:
        """Return a good reply; a busy server is asked again."""
        for _ in range(tries):
            reply = self._once(doing, method, path, body, kind, query)
            if reply.status not in BUSY or self.cancelled.wait(reply.later):
                break
        if reply.status >= 300:
            raise self.refused(doing, reply.status, reply.body)
        return reply

    def _once(self, doing: str, method: str, path: str, body: Any, kind: str, query: Mapping[str, str]) -> Reply:
        import urllib3

        url = f"{self.configuration.host}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {**self.credentials(), "Accept": "application/json", "Accept-Encoding": "identity"}
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = f"application/{kind}"
        timeout = urllib3.Timeout(connect=CONNECT, read=SECONDS)
        options = {"retries": False, "redirect": False, "preload_content": False, "timeout": timeout}
        try:
            response = self._pool.request(method, url, body=content, headers=headers, **options)
            try:
                beside = response.headers
                later, warnings = _later(beside.get("Retry-After")), _warnings(beside.getlist("Warning"))
                return Reply(response.status, self._body(doing, response), later, warnings)
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError) as cause:
            raise self.silent(doing, cause) from cause

    def _body(self, doing: str, response: "urllib3.BaseHTTPResponse") -> bytes:
        body, end = bytearray(), time.monotonic() + SECONDS
        for piece in response.stream(1 << 16, decode_content=False):
            body += piece
            if len(body) > BYTES:
                raise self.malformed(doing, "", f"more than {BYTES >> 20} MiB", "a shorter reply")
            if time.monotonic() > end:
                raise TimeoutError
        return bytes(body)

    def silent(self, doing: str, cause: Exception) -> errors.ClusterUnreachable:
        host = printable.short(self.configuration.host)
        seen = f"{host} does not answer: {_why(cause)}"
        if isinstance(getattr(cause, "args", (None,))[0], ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(
            cause
        ):
            seen = f"another server answers at {host} than the one whose authority the kubeconfig has"
        return errors.ClusterUnreachable(
            node=self.name,
            doing=doing,
            seen=seen,
            wanted="the API server of this context",
            next=f"{self.access.kubectl('version')}; what runs in the cluster goes on, and `pulumi up` continues",
        )

    def refused(self, doing: str, status: int, body: bytes) -> errors.ClusterRefused:
        """Return the error for a bad status, with the server's own words."""
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError):
            reply = {}
        reply = reply if STATUS.mistake(reply, "") is None else {}
        words = printable.short(str(reply.get("message") or f"HTTP status {status}"), 1000)
        wanted, todo = _remedy(status, words, self.access)
        seen = "the API server does not accept the credentials of this context" if status == 401 else words
        reason = printable.short(str(reply.get("reason") or ""))
        return errors.ClusterRefused(
            code=status, reason=reason, node=self.name, doing=doing, seen=seen, wanted=wanted, next=todo
        )


def _pool(configuration: "client.Configuration", tls: ssl.SSLContext) -> Any:
    """Return the client's own pool of connections, with our TLS in place of files."""
    from kubernetes.client import rest

    pool = rest.RESTClientObject(configuration).pool_manager
    for name in ("ca_certs", "ca_cert_data", "cert_file", "key_file", "cert_reqs"):
        pool.connection_pool_kw.pop(name, None)
    pool.connection_pool_kw["ssl_context"] = tls
    return pool


def _later(header: str | None) -> float:
    return min(float(header), 10.0) if header and header.isdecimal() else 1.0


def _warnings(headers: Sequence[str]) -> Sequence[str]:
    """Return the texts of the headers `Warning`, each on one line, safe on a terminal."""
    texts = [text for header in headers[:20] for text in WARNING.findall(header[: 1 << 14])]
    return [printable.short(re.sub(r"\\(.)", r"\1", text), 1000) for text in texts]


def _why(cause: Exception) -> str:
    name = type(cause).__name__
    known = {
        "ConnectTimeoutError": f"no connection within {CONNECT:g} s",
        "ReadTimeoutError": f"no reply within {SECONDS:g} s",
        "TimeoutError": f"no complete reply within {SECONDS:g} s",
        "NameResolutionError": "its name is unknown",
        "NewConnectionError": "connection refused" if "refused" in str(cause) else "no connection",
        "ProtocolError": "it closed the connection",
    }
    return known.get(name, f"{name}: {printable.short(str(cause), 120)}")


def _remedy(status: int, words: str, access: Access) -> tuple[str, str]:
    """Return what is wanted and what to do next after a refusal."""
    if status == 401:
        return (
            "credentials that have not expired",
            f"log in to the cluster again, or ask its owner for a new token; {access.kubectl('auth', 'whoami')}",
        )
    if status == 403 and "is forbidden: User" in words:
        return (
            "the rights that `fleet rights` prints",
            f"its owner applies what `fleet rights` prints; {access.kubectl('auth', 'can-i', '--list')}",
        )
    if status in (403, 422, 400) and "admission webhook" in words:
        return "an object that the cluster's webhooks admit", "ask the cluster's owner about this webhook"
    if status >= 500:
        return (
            "an API server without trouble of its own",
            f"try again; {access.kubectl('get', '--raw', '/readyz?verbose')}",
        )
    return "", "`fleet preflight` asks the cluster what it would accept"
