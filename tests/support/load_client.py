"""Clients that never send a request twice: every failure is a line, and so is the longest time without a success.

Half of the requests are streams, the others are a probe's picture. A worker keeps its connection, where the target says so. A new one goes to
the first address that accepts it, as with a DNS name that has several: until then nothing was sent. Needs the standard library alone, so it also
runs in a pod. Run as a process of its own, so that a busy test does not slow it: `Load` starts and ends it. Called by tests/e2e, tests/kubernetes
and tests/bench.
"""

import abc
import argparse
import collections
import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import pathlib
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

CONNECT, ANSWER = 5.0, 300.0  # seconds
PAUSE = 1.0  # seconds after a failure: without it, clients whom nobody serves soon exceed the limit of their key
SHORT, LONG = 40, 200  # tokens of a stream
ORDERS = (("short", "picture", "long", "picture"), ("picture", "short", "picture", "short"))


class Failed(Exception):
    """A request failed, or its answer is not whole."""


class Connection(http.client.HTTPConnection):
    """A connection to the first of the addresses that accepts one; with TLS its certificate must be of the endpoint's name."""

    def __init__(self, name: str, addresses: Sequence[str], port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(name, port, timeout=CONNECT)
        self._addresses, self._tls = addresses, tls

    def connect(self) -> None:
        """Connect. Raises OSError of the last address where none accepts."""
        *others, last = self._addresses
        for address in others:
            with contextlib.suppress(OSError):
                return self._connect_to(address)
        return self._connect_to(last)

    def _connect_to(self, address: str) -> None:
        plain = socket.create_connection((address, self.port), CONNECT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
        self.sock.settimeout(ANSWER)


@dataclasses.dataclass(frozen=True)
class Target:
    """The endpoint as a client has it. `picture` is a request's body; `long` has the tokens of the longest streams.

    `authority` is a file, "" for the system's own authorities, None for no TLS. Without `kept` each request has a connection of its own.
    """

    name: str
    addresses: Sequence[str]
    port: int
    authority: str | None
    key: str
    picture: Mapping[str, Any]
    long: int = LONG
    kept: bool = True

    def connect(self, first: int) -> Connection:
        """Return a new connection, not yet open; it begins with the address of that number."""
        turn = first % len(self.addresses)
        addresses = [*self.addresses[turn:], *self.addresses[:turn]]
        tls = None if self.authority is None else ssl.create_default_context(cafile=self.authority or None)
        return Connection(self.name, addresses, self.port, tls)


def ask(connection: Connection, target: Target, kind: str) -> None:
    """Send one request and read its whole answer. Raises Failed."""
    stream = kind != "picture"
    body = (
        stream_body(str(target.picture["model"]), target.long if kind == "long" else SHORT)
        if stream
        else target.picture
    )
    headers = {"Authorization": f"Bearer {target.key}", "Content-Type": "application/json"}
    path = "/v1/completions" if stream else "/v1/chat/completions"
    try:
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise Failed(f"{answer.status} {answer.read()[:120].decode(errors='replace')}")
        if stream:
            read_stream(answer, int(str(body["max_tokens"])))
        elif json.loads(answer.read())["choices"][0]["finish_reason"] not in ("stop", "length"):
            raise Failed("an answer without an end")
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise Failed(repr(error)) from error


def stream_body(model: str, tokens: int) -> dict[str, Any]:
    """Return a request for a stream of exactly so many tokens."""
    prompt = f"{random.random()} one two three"  # no two requests are equal
    exact = {"max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    return {"model": model, "prompt": prompt, **exact, "stream": True, "stream_options": {"include_usage": True}}


def read_stream(answer: http.client.HTTPResponse, tokens: int) -> None:
    """Read a stream of events to its end. Raises Failed where it is cut."""
    whole, count = False, None
    for line in iter(answer.readline, b""):
        if line.startswith(b"data: [DONE]"):
            whole = True
        elif line.startswith(b"data: "):
            event = json.loads(line.removeprefix(b"data: "))
            if "error" in event:
                raise Failed(f"in the stream: {str(event['error'])[:120]}")
            count = (event.get("usage") or {}).get("completion_tokens", count)
    if not whole or count != tokens:
        raise Failed(f"cut: {count} of {tokens} tokens, {'an end' if whole else 'no end'}")


def work(target: Target, number: int, stop: threading.Event, report: Any) -> None:
    """Send one request after the other until `stop`, and report each."""
    connection = target.connect(number)
    for kind in itertools.cycle(ORDERS[number % len(ORDERS)]):
        if stop.is_set():
            connection.close()
            return
        start = time.time()
        try:
            ask(connection, target, kind)
            report(kind=kind, start=start, end=time.time())
            if not target.kept:
                connection.close()
        except Failed as error:
            report(kind=kind, start=start, end=time.time(), error=str(error), worker=number)
            connection.close()
            connection = target.connect(number)
            stop.wait(PAUSE)


@dataclasses.dataclass(frozen=True)
class Sums:
    """What clients saw: successes by kind, failures in words, the longest time in seconds without a success."""

    successes: Mapping[str, int]
    failures: Sequence[str]
    longest_gap: float

    @property
    def requests(self) -> int:
        """Return the number of all requests."""
        return sum(self.successes.values()) + len(self.failures)

    def __str__(self) -> str:
        """Return all in one text: equal failures, whatever their seconds, once with their number."""
        reasons = collections.Counter(re.sub(r"after [\d.]+ s", "after N s", failure) for failure in self.failures)
        failures = "".join(f"\n  {count} x {reason}" for reason, count in reasons.most_common())
        return f"{self.requests} requests, {len(self.failures)} lost, no answer for {self.longest_gap:g} s{failures}"


def sums(lines: Sequence[Mapping[str, Any]]) -> Sums:
    """Return the sums of reports; the first line is the beginning, the last one the end."""
    good = [line for line in lines if "kind" in line and "error" not in line]
    bad = [
        f"{line['kind']} after {line['end'] - line['start']:.1f} s: {line['error']}"
        for line in lines
        if "error" in line
    ]
    times = sorted([lines[0]["time"], *(line["end"] for line in good), lines[-1]["time"]])
    kinds = [line["kind"] for line in good]
    gap = max(later - earlier for earlier, later in itertools.pairwise(times))
    return Sums({kind: kinds.count(kind) for kind in sorted({*kinds})}, bad, round(gap, 2))


def job(target: Target, workers: int) -> str:
    """Return the text of a job file."""
    return json.dumps({**dataclasses.asdict(target), "workers": workers})


class Reports(abc.ABC):
    """The reports of clients that ask somewhere else."""

    @abc.abstractmethod
    def text(self) -> str:
        """Return what they have reported up to now. Raises AssertionError where they have ended by themselves."""

    def so_far(self) -> Sums:
        """Return the sums up to now."""
        lines = [json.loads(line) for line in self.text().splitlines(keepends=True) if line.endswith("\n")]
        return sums([*(lines or [{"time": time.time()}]), {"time": time.time()}])

    def wait_for(self, successes: int, seconds: float) -> Sums:
        """Wait until there were so many successes more than now. Raises AssertionError after `seconds`."""
        wanted, end = sum(self.so_far().successes.values()) + successes, time.monotonic() + seconds
        while sum((current := self.so_far()).successes.values()) < wanted:
            assert time.monotonic() < end, f"only {current} within {seconds:g} s"
            time.sleep(0.2)
        return current


class Load(Reports):
    """Clients in a process of their own, from the entering of the context to its end."""

    def __init__(self, target: Target, folder: pathlib.Path, workers: int = 8) -> None:
        self._job, self._out = folder / "load.json", folder / "load.jsonl"
        # The key is in a file that only its owner reads, never among the arguments.
        self._job.touch(0o600)
        self._job.write_text(job(target, workers))

    def __enter__(self) -> Self:
        self._out.write_text("")
        command = [sys.executable, __file__, str(self._job), str(self._out)]
        self._process = subprocess.Popen(command, start_new_session=True)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(ANSWER + 30)

    def text(self) -> str:
        assert self._process.poll() is None, "the clients have ended"
        return self._out.read_text()

    def end(self) -> Sums:
        """End the clients after their running requests, and return the sums."""
        self.__exit__()
        lines = [json.loads(line) for line in self._out.read_text().splitlines()]
        return sums(lines)


def main() -> None:
    """Run the clients of a job file until SIGTERM. Usage: load_client.py JOB OUT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()
    settings = json.loads(arguments.job.read_text())
    workers, target = settings.pop("workers"), Target(**settings)
    stop, lock = threading.Event(), threading.Lock()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with arguments.out.open("a") as out:

        def report(**line: Any) -> None:
            with lock:
                out.write(json.dumps(line) + "\n")
                out.flush()

        report(time=time.time(), pid=os.getpid())
        threads = [threading.Thread(target=work, args=(target, number, stop, report)) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report(time=time.time())


if __name__ == "__main__":
    main()
