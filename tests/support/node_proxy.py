"""A node proxy for tests without a node: HAProxy's admin socket as a stand-in, or a real HAProxy where this machine has one.

The stand-in's answers were recorded from HAProxy 2.6.12. Both are reached by `paths`, the argument of fleet/managed/on_node_drain.py;
`replicas` write the units whose state the stand-in systemctl reports. Used by the tests of fleet.managed.rotation and of turns.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import http_server

HEAD = (
    "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,"
)
HAPROXY = shutil.which("haproxy") or ""
# It replies with the words in the file of each unit's state, logs what changes something, and gives a restarted unit the state in `started`.
SYSTEMCTL = """#!/bin/sh
cd {folder}/states || exit 1
word=$1
shift
case $word in
is-active) cat "$@" ;;
show) printf 'ActiveState=%s\\nSubState=x\\nNRestarts=0\\nJob=\\n' "$(cat "$1")" ;;
*)
  echo "$word $*" >>{folder}/systemctl.log
  [ "$word" != restart ] || for unit in "$@"; do [ "$unit" = --no-block ] || cat {folder}/started >"$unit"; done ;;
esac
"""
CONFIG = """
global
  stats socket {folder}/admin.sock mode 600 level admin
  server-state-file {folder}/state
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout http-request 15s
  load-server-state-from-file global
frontend node
  bind unix@{folder}/front.sock
  http-request track-sc0 req.hdr(x-gateway) table gateways if {{ path /ready }}
  http-request return status 404 if {{ path /ready }} {{ nbsrv(admission) lt 1 }}
  http-request return status 200 if {{ path /ready }}
  default_backend replicas
backend gateways
  stick-table type string len 64 size 1k expire 10s
backend admission
  server node 127.0.0.1:1
backend replicas
  option httpchk GET /health
  default-server check inter 200ms fall 2 rise 1
{servers}
"""


class Node:
    """The files of a node: units of replicas with their state, the state file of its proxy, our mark."""

    def __init__(self, folder: Path, replicas: tuple[str, ...] = ("glm-0",)) -> None:
        self.folder, self.names = folder, replicas
        self.paths = {
            "socket": str(folder / "admin.sock"),
            "state": str(folder / "state"),
            "proxy": str(folder / "proxy"),
            "units": str(folder / "units"),
            "mark": str(folder / "fleet" / "drain.json"),
        }
        self.bin = folder / "bin"
        for name in ("units", "bin", "states"):
            (folder / name).mkdir(exist_ok=True)
        for replica in replicas:
            self.put_unit(replica, "active")
        (folder / "units" / "another.service").write_text("[Unit]\n")
        (folder / "started").write_text("active\n")
        (self.bin / "systemctl").write_text(SYSTEMCTL.format(folder=folder))
        (self.bin / "systemctl").chmod(0o755)

    def put_unit(self, replica: str, word: str) -> None:
        """Write the unit of a replica, in this state."""
        (self.folder / "units" / f"{replica}.service").write_text("# glm-fleet replica. By Ansible\n[Unit]\n")
        draft = self.folder / f"{replica}.draft"
        draft.write_text(f"{word}\n")
        draft.replace(self.folder / "states" / f"{replica}.service")  # a stand-in systemctl may read it just now

    def drop_unit(self, replica: str) -> None:
        (self.folder / "units" / f"{replica}.service").unlink()

    @property
    def systemctl(self) -> list[str]:
        """Return what changed units, one line a call."""
        log = self.folder / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def path(self) -> str:
        """PATH with the stand-in systemctl."""
        return f"{self.bin}:{os.environ['PATH']}"

    @property
    def mark(self) -> object:
        """Who has drained what, by the mark; None without one."""
        file = Path(self.paths["mark"])
        content = json.loads(file.read_text()) if file.exists() else None
        return content and {name: content[name] for name in ("node", "replicas")}


@dataclass
class Server:
    """One server of the stand-in: its word, its requests in flight, waiting, and so far."""

    status: str = "UP"
    scur: int = 0
    qcur: int = 0
    stot: int = 0


@dataclass
class StandIn:
    """The admin socket alone: the test sets servers and gateways. `commands` keeps what it was asked."""

    node: Node
    admission: str = "no check"
    replicas: dict[str, Server] = field(default_factory=dict)
    gateways: dict[str, int] = field(default_factory=dict)  # milliseconds left
    commands: list[str] = field(default_factory=list)
    asking: bool = True  # the gateways ask again after a drain
    asked: list[int] = field(default_factory=list)  # what they read
    loads: list[int] = field(default_factory=list)  # requests in flight at the next looks
    keys: list[str] = field(default_factory=list)  # of the replicas, as the proxy was given them
    uptime: int = 1  # seconds
    counts: bool = False  # each look finds one more request
    after_ready: Callable[[], object] | None = None  # once, when the node is ready again

    def __enter__(self) -> "StandIn":
        self.replicas = self.replicas or {name: Server() for name in self.node.names}
        Path(self.node.paths["proxy"]).mkdir(exist_ok=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin with the drain in the state file."""
        file = Path(self.node.paths["state"])
        self.admission = "MAINT" if file.exists() and "admission node MAINT" in file.read_text() else "no check"
        stand_in = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                if line := self.rfile.readline().decode().strip():
                    stand_in.commands.append(line)
                    self.wfile.write(f"{stand_in.answer(line)}\n".encode())

        self._server = socketserver.ThreadingUnixStreamServer(self.node.paths["socket"], Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        Path(self.node.paths["socket"]).unlink()

    def load(self, running: int) -> None:
        next(iter(self.replicas.values())).scur = running

    def answer(self, line: str) -> str:
        match line.split():
            case ["show", "stat", "admission", "6", "-1"]:
                return "\n".join([HEAD, _row("admission", "node", Server(self.admission)), ""])
            case ["show", "stat", "replicas", "6", "-1"]:
                each = self.replicas.values()
                for server in each:
                    server.stot += self.counts
                if self.loads:
                    self.load(self.loads.pop(0))
                whole = Server("UP", *(sum(getattr(one, part) for one in each) for part in ("scur", "qcur", "stot")))
                rows = [_row("replicas", name, server) for name, server in self.replicas.items()]
                return "\n".join([HEAD, *rows, _row("replicas", "BACKEND", whole), ""])
            case ["show", "info"]:
                return f"Name: HAProxy\nVersion: 2.6.12\nUptime: 0d 0h00m{self.uptime:02}s\nUptime_sec: {self.uptime}\n"
            case ["show", "table", "gateways"]:
                lines = [f"0x5562: key={name} use=0 exp={left}" for name, left in self.gateways.items()]
                asks = self.asking and self.admission == "MAINT"
                self.asked += [404] * asks
                self.gateways = {name: left + 50 if asks else left - 50 for name, left in self.gateways.items()}
                return "\n".join([f"# table: gateways, type: string, size:1024, used:{len(lines)}", *lines, ""])
            case ["show", "servers", "state"]:
                states = [f"replicas {name} {server.status}" for name, server in self.replicas.items()]
                return "\n".join(["1", f"admission node {self.admission}", *states, ""])
            case ["set", "server", "admission/node", "state", word]:
                self.admission = "MAINT" if word == "maint" else "no check"
                if word == "ready" and self.after_ready:
                    act, self.after_ready = self.after_ready, None
                    act()
                return ""
            case ["set", "server", name, "state", word] if name.removeprefix("replicas/") in self.replicas:
                self.replicas[name.removeprefix("replicas/")].status = "MAINT" if word == "maint" else "UP"
                return ""
            case ["set", "server", *_]:
                return "No such server.\n"
            case ["set", "map", name, "replica", *words] if name == f"{self.node.paths['proxy']}/key.map":
                self.keys.append(" ".join(words))
                return ""
        raise AssertionError(line)


def _row(backend: str, name: str, server: Server) -> str:
    return f"{backend},{name},{server.qcur},0,{server.scur},1,256,{server.stot},0,0,,0,,0,0,0,0,{server.status},1,1,"


class Real:
    """A real HAProxy with replicas that answer, and a gateway that asks /ready each 100 ms. Needs HAPROXY."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._ends = contextlib.ExitStack()
        self._over = threading.Event()
        self._release = threading.Event()
        self._front = str(node.folder / "front.sock")
        self.asked: list[int] = []

    def __enter__(self) -> "Real":
        folder = self.node.folder
        Path(self.node.paths["proxy"]).mkdir(exist_ok=True)
        for name in self.node.names:
            self._ends.enter_context(_replica(folder / f"{name}.sock", self._release))
        servers = "\n".join(f"  server {name} unix@{folder}/{name}.sock" for name in self.node.names)
        (folder / "haproxy.cfg").write_text(CONFIG.format(folder=folder, servers=servers))
        self.start()
        gateway = threading.Thread(target=self._ask)
        gateway.start()
        self._ends.callback(gateway.join)
        self._ends.callback(self._over.set)
        return self

    def start(self) -> None:
        (self.node.folder / "state").touch()
        self._process = subprocess.Popen([HAPROXY, "-q", "-f", self.node.folder / "haproxy.cfg"], cwd="/")
        while True:
            with contextlib.suppress(OSError):
                if self._get("/ready", "glm-1"):
                    return
            assert self._process.poll() is None

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def __exit__(self, *_: object) -> None:
        self._release.set()
        self._ends.close()
        self.stop()

    def load(self, running: int) -> None:
        """Have so many requests in flight; 0 lets all of them end."""
        if not running:
            self._release.set()
            return
        for _ in range(running):
            thread = threading.Thread(target=self._get, args=("/slow", ""))
            thread.start()
            self._ends.callback(thread.join)
        self._ends.callback(self._release.set)

    def _get(self, path: str, gateway: str) -> int:
        connection = _Unix(self._front)
        try:
            connection.request("GET", path, headers={"x-gateway": gateway})
            return connection.getresponse().status
        finally:
            connection.close()

    def _ask(self) -> None:
        while not self._over.wait(0.1):
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.asked.append(self._get("/ready", "glm-1"))


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("node")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


@contextlib.contextmanager
def _replica(path: Path, release: threading.Event) -> Iterator[None]:
    class Handler(http_server.Handler):
        def address_string(self) -> str:
            return ""

        def do_GET(self) -> None:
            if self.path == "/slow":
                release.wait(60)
            self.reply(200, b"")

    server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
