"""Runs beside the proxies: the same requests by several ways, in turns, and what each took. Standard library alone.

`endpoint_client.py JOB` prints JSON. A way is a client's connection and the processes that serve it. Each round asks by every way once, in
another order, so that a busy machine hits all alike. Started by tests/bench/endpoint.py.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

TIMEOUT = 120.0  # seconds
PAUSE = 0.01  # seconds between the tokens of a stream
TICKS = os.sysconf("SC_CLK_TCK")


class Unix(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self.host)


@dataclasses.dataclass
class Way:
    """A way to the replica: `socket`, or `address` and `port`, with TLS if it has an `authority`; `own` is a client certificate."""

    key: str
    processes: list[int]
    socket: str = ""
    address: str = ""
    port: int = 0
    authority: str = ""
    own: str = ""

    def connect(self) -> None:
        """Open the connection."""
        self.connection = self._connection()
        self.connection.connect()
        if not self.socket:
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _connection(self) -> http.client.HTTPConnection:
        if self.socket:
            return Unix(self.socket)
        if not self.authority:
            return http.client.HTTPConnection(self.address, self.port, timeout=TIMEOUT)
        tls = ssl.create_default_context(cafile=self.authority)
        tls.check_hostname = False  # the same name for all
        if self.own:
            tls.load_cert_chain(self.own)
        return http.client.HTTPSConnection(self.address, self.port, context=tls, timeout=TIMEOUT)

    @contextlib.contextmanager
    def ask(self, body: bytes) -> Iterator[http.client.HTTPResponse]:
        """Send a request and give its answer. Raises AssertionError where it is no success."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        self.connection.request("POST", "/v1/chat/completions", body, headers)
        answer = self.connection.getresponse()
        assert answer.status == 200, f"{answer.status} {answer.read()[:300]!r}"
        yield answer
        answer.read()

    def seconds(self) -> float:
        """Return the processor time of the processes and their children, in seconds."""
        total, numbers = 0, [*self.processes]
        while numbers:
            stat = pathlib.Path(f"/proc/{(number := numbers.pop())}")
            total += sum(int(ticks) for ticks in (stat / "stat").read_text().rpartition(")")[2].split()[11:13])
            numbers += [int(child) for child in (stat / f"task/{number}/children").read_text().split()]
        return total / TICKS


def whole(way: Way, body: bytes) -> list[float]:
    """Return the seconds from the request to the end of its answer."""
    start = time.perf_counter()
    with way.ask(body):
        pass
    return [time.perf_counter() - start]


def stream(way: Way, body: bytes) -> list[float]:
    """Return how much later each token of a stream arrived than it was sent, in seconds. Raises AssertionError where a token is missing."""
    lags = []
    with way.ask(body) as answer:
        for line in iter(answer.readline, b""):
            arrival = time.time()
            if line.startswith(b"data: {"):
                text = (json.loads(line.removeprefix(b"data: "))["choices"] or [{}])[0].get("delta", {}).get("content")
                lags += [arrival - float(text)] if text and text.strip() else []
    assert len(lags) == json.loads(body)["max_tokens"], f"{len(lags)} tokens"
    return lags


def turns(
    ways: dict[str, Way], work: Callable[[Way, bytes], list[float]], body: bytes, rounds: int, keep: bool = False
) -> dict[str, Any]:
    """Return for each way its figures in seconds, sorted, and the processor time of its processes for one request.

    Without `keep` each request has a new connection, open before it is measured: a server may close an idle one.
    """
    figures: dict[str, list[float]] = {name: [] for name in ways}
    spent = dict.fromkeys(ways, 0.0)
    for way in ways.values():
        way.connect()
        work(way, body)  # the first one is another
    for _ in range(rounds):
        for name in random.sample([*ways], len(ways)):
            if not keep:
                ways[name].connection.close()
                ways[name].connect()
            before = ways[name].seconds()
            figures[name] += work(ways[name], body)
            spent[name] += ways[name].seconds() - before
    for way in ways.values():
        way.connection.close()
    return {name: {"figures": sorted(figures[name]), "cpu": spent[name] / rounds} for name in ways}


def main() -> None:
    """Measure everything of the job."""
    job = json.loads(pathlib.Path(sys.argv[1]).read_text())
    ways = {name: Way(**way) for name, way in job["ways"].items()}

    def body(text: str, **more: Any) -> bytes:
        return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()

    picture = body("A" * job["bytes"], max_tokens=1)
    tokens = body("a", max_tokens=job["tokens"], pause=PAUSE, stream=True)
    results = {
        "small": turns(ways, whole, body("a", max_tokens=1), job["rounds"], keep=True),
        "stream": turns(ways, stream, tokens, job["streams"]),
        "large": turns(ways, whole, picture, job["bodies"]),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
