"""Runs on the node, as root, by `python3 -I -`: report how it serves, take it or a replica out of rotation, put it back, watch it.

Called by rotation.py with {do, paths, …}. `look` prints one line; `drain`, `undrain` and `watch` print a line for each step until they are
done. The node proxy's admin socket is asked in plain Python. A node without a node proxy has nothing to drain. Needs Python 3.10's standard library.
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Facts = dict[str, Any]

POLL, STEP = 0.1, 1.0  # seconds between two looks, and between two lines
STILL = 0.5  # seconds without a request in flight that count as empty: one may be on its way here
FORGOTTEN = 10  # seconds after which the proxy forgets a gateway (`expire` in proxy.cfg.j2)
GATEWAYS = 15.0  # seconds within which each gateway must have asked again; one that does not is gone
BACK = 30.0  # seconds within which the proxy must find a replica that serves


class Proxy:
    """The node proxy, by its admin socket; `state` is the file from which it takes its drains after a restart."""

    def __init__(self, paths: Facts) -> None:
        self.socket, self.state = paths["socket"], pathlib.Path(paths["state"])
        self.installed = pathlib.Path(paths["proxy"]).exists()
        self.keys = pathlib.Path(paths["proxy"], "key.map")

    def ask(self, command: str) -> str:
        """Return the answer to one command; end this script without one."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(self.socket)
                connection.sendall(f"{command}\n".encode())
                return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode(errors="replace").strip()
        except OSError as error:
            sys.exit(f"the node proxy's {self.socket}: {error.strerror or error}")

    def answers(self) -> bool:
        """Return whether it runs."""
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.connect(self.socket)
            return True
        return False

    def stat(self, backend: str) -> dict[str, dict[str, str]]:
        """Return the figures of a backend and its servers, by name; BACKEND is the backend itself."""
        head, *rows = self.ask(f"show stat {backend} 6 -1").splitlines() or [""]
        names = head.removeprefix("# ").split(",")
        entries = [dict(zip(names, row.split(","), strict=False)) for row in rows if row]
        return {entry["svname"]: entry for entry in entries if "svname" in entry}

    def in_flight(self, server: str = "BACKEND") -> int:
        """Return the requests that run or wait, of one replica or of all."""
        row = self.stat("replicas").get(server)
        if row is None:
            sys.exit(f"the node proxy has no {'backend replicas' if server == 'BACKEND' else f'replica {server}'}")
        return int(row["scur"] or 0) + int(row["qcur"] or 0)

    def gateways(self) -> dict[str, int]:
        """Return the milliseconds until each gateway that has asked /ready is forgotten: a new question makes them more."""
        lines = self.ask("show table gateways").splitlines()
        found = (re.search(r"\bkey=(\S+) .*\bexp=(\d+)", line) for line in lines)
        return {match[1]: int(match[2]) for match in found if match}

    def reached(self) -> bool:
        """Return whether a gateway asks whether this node is ready, or the proxy does not run long enough to tell."""
        if self.gateways():
            return True
        uptime = re.search(r"(?m)^Uptime_sec: (\d+)$", self.ask("show info"))
        return not uptime or int(uptime[1]) < FORGOTTEN

    def set(self, server: str, state: str) -> None:
        """Set a server to `maint` or `ready`, and keep that for its next start."""
        if answer := self.ask(f"set server {server} state {state}"):
            sys.exit(f"the node proxy's {server}: {answer}")
        self.keep()

    def use_key(self, key: str) -> None:
        """Send requests with this key from now on; after a reload the key of key.map counts again."""
        word = re.sub(r"([\\; ])", r"\\\1", key)  # the proxy's command line ends a command at `;`
        if self.ask(f"set map {self.keys} replica {word}"):
            sys.exit(f"the node proxy does not take the replicas' key into {self.keys}")

    def keep(self) -> None:
        """Write the state file, atomically, as its folder's owner."""
        folder = self.state.parent.stat()
        draft = self.state.with_name(f".{self.state.name}.new")
        draft.write_text(self.ask("show servers state") + "\n")
        os.chown(draft, folder.st_uid, folder.st_gid)
        draft.replace(self.state)


class Mark:
    """The file that says who has drained the node or a replica, and since when: {node: turn|operator, replicas: {NAME: turn|operator},
    since: seconds of the clock, replicas_since: {NAME: seconds}}."""

    def __init__(self, path: str) -> None:
        self.path = pathlib.Path(path)
        try:
            content = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError, RecursionError):
            content = {}
        content = content if isinstance(content, dict) else {}
        replicas, since = content.get("replicas"), content.get("replicas_since")
        self.node = str(content.get("node") or "")
        self.replicas = {str(name): str(by) for name, by in (replicas if isinstance(replicas, dict) else {}).items()}
        # 0: an earlier release has not written it
        self.since = _seconds(content.get("since"))
        times = since if isinstance(since, dict) else {}
        self.replicas_since = {name: _seconds(times.get(name)) for name in self.replicas}

    def put(self, replica: str, by: str) -> None:
        """Record that `by` drained the node or one replica, now unless it did so before. Without a `by` remove the record."""
        current = self.replicas.get(replica, "") if replica else self.node
        if by and by == current:
            return
        now = int(time.time()) if by else 0
        if replica:
            self.replicas = {name: who for name, who in self.replicas.items() if name != replica}
            self.replicas |= {replica: by} if by else {}
            self.replicas_since |= {replica: now}
        else:
            self.node, self.since = by, now
        if not self.node and not self.replicas:
            self.path.unlink(missing_ok=True)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.new")
        since = {name: self.replicas_since[name] for name in self.replicas}
        content = {"node": self.node, "replicas": self.replicas, "since": self.since, "replicas_since": since}
        draft.write_text(json.dumps(content))
        draft.chmod(0o644)
        draft.replace(self.path)


def _seconds(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def units(folder: str) -> dict[str, str]:
    """Return systemd's word for each replica's unit: active (which is healthy), activating, failed …"""
    names = []
    for path in sorted(pathlib.Path(folder).glob("*.service")):
        with contextlib.suppress(OSError), path.open(errors="replace") as file:
            if file.readline().startswith("# glm-fleet replica"):
                names.append(path.name)
    if not names:
        return {}
    answer = subprocess.run(["systemctl", "is-active", *names], capture_output=True, text=True, timeout=30)
    words = answer.stdout.split() + ["unknown"] * len(names)
    return {name.removesuffix(".service"): word for name, word in zip(names, words, strict=False)}


def look(paths: Facts) -> Facts:
    """Return how the node serves: its proxy, the marks, each replica's unit and the proxy's word for it, the requests so far."""
    proxy, mark = Proxy(paths), Mark(paths["mark"])
    answers = proxy.answers()
    servers = proxy.stat("replicas") if answers else {}
    admission = proxy.stat("admission").get("node", {}) if answers else {}
    return {
        "proxy": "answers" if answers else "silent" if proxy.installed else "none",
        "draining": admission.get("status", "").startswith("MAINT"),
        "reached": proxy.reached() if answers else True,
        "mark": mark.node,
        "marks": mark.replicas,
        "since": mark.since,
        "marks_since": mark.replicas_since,
        "requests": int(servers.get("BACKEND", {}).get("stot") or 0),
        "in_flight": proxy.in_flight() if answers else 0,
        "replicas": {
            name: {"unit": word, "proxy": servers.get(name, {}).get("status", "")}
            for name, word in units(paths["units"]).items()
        },
    }


def steps(done: Callable[[], bool], seconds: float) -> Iterator[bool]:
    """Yield False about each STEP until `done` or `seconds` have passed, then whether it is done."""
    now = time.monotonic()
    end, line = now + seconds, now
    while not (finished := done()) and now < end:
        if now >= line:
            line = now + STEP
            yield False
        time.sleep(POLL)
        now = time.monotonic()
    yield finished


def drain(paths: Facts, replica: str, by: str, seconds: float) -> Iterator[Facts]:
    """Take the node or a replica out of rotation, and wait at most `seconds` until nothing runs there. The last step is `done`."""
    proxy, mark = Proxy(paths), Mark(paths["mark"])
    current = mark.replicas.get(replica, "") if replica else mark.node
    if not (by == "turn" and current == "operator"):
        mark.put(replica, by)
    if not proxy.answers():
        yield {"done": True, "in_flight": 0, "silent": []}
        return
    proxy.set(f"replicas/{replica}" if replica else "admission/node", "maint")
    left = {} if replica else proxy.gateways()  # that have not asked since
    server, empty_since = replica or "BACKEND", [0.0]

    def all_asked() -> bool:
        now = proxy.gateways()
        for name, before in [*left.items()]:
            if now.get(name, before + 1) > before:  # it has asked again, or is forgotten
                del left[name]
            else:
                left[name] = now[name]
        return not left

    def empty() -> bool:
        if proxy.in_flight(server):
            empty_since[0] = 0.0
            return False
        empty_since[0] = empty_since[0] or time.monotonic()
        return time.monotonic() - empty_since[0] >= STILL

    for _ in steps(all_asked, min(GATEWAYS, seconds)):
        yield {"done": False, "in_flight": proxy.in_flight(server), "silent": sorted(left)}
    for _ in steps(empty, seconds):
        yield {"done": False, "in_flight": proxy.in_flight(server), "silent": sorted(left)}
    yield {"done": True, "in_flight": proxy.in_flight(server), "silent": sorted(left)}


def undrain(paths: Facts, replica: str, by: str, key: str) -> Iterator[Facts]:
    """Put the node or a replica back into rotation; a turn leaves an operator's drain. Then wait until the proxy finds its replicas.

    With a `key` the proxy uses that one from now on: the run of the role gateway, which writes it, comes later.
    """
    proxy, mark = Proxy(paths), Mark(paths["mark"])
    if key and proxy.installed:
        proxy.use_key(key)
    known = proxy.stat("replicas") if proxy.installed else {}
    of_turns = [name for name, who in mark.replicas.items() if who == "turn"] if by == "turn" and not replica else []
    for name in of_turns:  # the end of a node's turn is that of its replicas' turns
        if name in known:
            proxy.set(f"replicas/{name}", "ready")
        mark.put(name, "")
    current = mark.replicas.get(replica, "") if replica else mark.node
    if by == "turn" and current == "operator":
        yield {"done": True, "up": 0, "known": 0, "drained": True}
        return
    if proxy.installed:
        proxy.set(f"replicas/{replica}" if replica else "admission/node", "ready")
    mark.put(replica, "")  # last: a drain without a mark would count as an operator's
    if not proxy.installed:
        yield {"done": True, "up": 0, "known": 0, "drained": False}
        return
    # New replicas are not known before the next run of the role gateway; one that an operator drained stays out.
    wanted = [replica] if replica else [name for name in units(paths["units"]) if name not in mark.replicas]
    names = [name for name in wanted if name in known]

    def up() -> int:
        servers = proxy.stat("replicas")
        return sum(servers.get(name, {}).get("status", "").startswith("UP") for name in names)

    for _ in steps(lambda: up() == len(names), BACK):
        yield {"done": False, "up": up(), "known": len(names), "drained": False}
    yield {"done": True, "up": up(), "known": len(names), "drained": False}


def watch(paths: Facts, seconds: float) -> Iterator[Facts]:
    """Yield `look` about each STEP for `seconds`, and at the end."""
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        yield {"done": False, **look(paths)}
        time.sleep(min(STEP, max(end - now, 0)))
    yield {"done": True, **look(paths)}


def main(request: Facts) -> None:
    paths, do = request["paths"], request["do"]
    lines: Iterator[Facts]
    if do == "look":
        lines = iter([look(paths)])
    elif do == "drain":
        lines = drain(paths, request["replica"], request["by"], request["seconds"])
    elif do == "undrain":
        lines = undrain(paths, request["replica"], request["by"], request["key"])
    else:
        lines = watch(paths, request["seconds"])
    for line in lines:
        print(json.dumps(line), flush=True)
