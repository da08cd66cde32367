"""The benchmark of weights from neighbours: eight empty nodes that start at once, in network namespaces whose links `tc` limits.

Real nginx with the role's configuration at each node and at the hub, real fetches, mutual TLS. The links of the hub and of all nodes have the
same rate. Reports bytes over the hub's link and over the busiest node's, and what share of the link's rate the fetch has. Beside it
"each from the hub", measured in the same way, with the fetch that does not know neighbours.
Needs root, ip, tc, and what tests/support/nginx_program.py needs. Called by tests/bench/__main__.py.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fleet.weights_fetcher import neighbours
from tests.support import nginx_program, weights_source
from tests.support.weights_hub import FETCH, REPOSITORY, REVISION

if TYPE_CHECKING:
    from tests.bench.__main__ import Bench

NODES, FILES, FILE, CHUNK = 8, 24, 4 << 20, 128 << 10  # 47 shards of 4.6 GB have 280 chunks of 16 MiB each, these 32
RATE = 10_000_000  # bits in a second of each link, both ways: two cores encrypt all of it twice
PORT, HUB = 8445, 80
PREFIX = "glmw"
HUB_CONFIGURATION = """
daemon off; pid nginx.pid; error_log stderr error; worker_processes 2; user root;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server {{
    listen {address}:{port};
    location /api/ {{ alias {folder}/; try_files /tree.json =404; }}
    location ~ "/resolve/[0-9a-f]+/(?<file>.+)$" {{ root {folder}/files; try_files /$file =404; }}
  }}
}}
"""


def measure(rows: "Bench") -> None:
    """Add one row: the fetch of all nodes from neighbours, and each from the hub."""
    load = os.getloadavg()[0]
    ways = {"from neighbours": _run(shared=True), "each from the hub": _run(shared=False)}
    target = "hub serves 1.0 copies, >= 0.8 of the links' rate"
    rows.compare(
        f"weights to {NODES} empty nodes, {FILES * FILE >> 20} MiB, links of {RATE // 10**6} Mbit/s", target, ways, load
    )


def _run(shared: bool) -> dict[str, float]:
    """Return the figures of one fetch of all nodes."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glm-fleet-weights-")))
        folder.chmod(0o711)
        links = stack.enter_context(_network())
        _hub(folder, stack)
        names = [f"n{number}" for number in range(1, NODES + 1)]
        commands = [_node(folder, name, names, shared, stack) for name in names]
        before = {name: _bytes(link) for name, link in links.items()}
        start = time.monotonic()
        fetches = [
            _start(command, folder / f"{name}.log", stack) for name, command in zip(names, commands, strict=True)
        ]
        for name, fetch in zip(names, fetches, strict=True):
            if fetch.wait(1800):
                raise AssertionError(f"{name}: {(folder / f'{name}.log').read_text()}")
        seconds = time.monotonic() - start
        moved = {
            name: [now - then for now, then in zip(_bytes(link), before[name], strict=True)]
            for name, link in links.items()
        }
        if keep := os.environ.get("FLEET_BENCH_LOGS"):
            for log in folder.glob("*.log"):
                shutil.copy(log, keep)
        model = FILES * FILE
        return {
            "seconds": round(seconds, 1),
            "of the rate": round(model * 8 / RATE / seconds, 2),
            "hub copies": round(moved["hub"][1] / model, 2),
            "most into a node": round(max(moved[name][0] for name in names) / model, 2),
            "most out of a node": round(max(moved[name][1] for name in names) / model, 2),
        }


def _start(command: list[str], log: pathlib.Path, stack: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    """Start a fetch, which ends with the stack at the latest."""
    output = stack.enter_context(log.open("w"))
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    stack.callback(process.kill)
    return process


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _address(name: str) -> str:
    return f"198.18.77.{1 if name == 'hub' else 10 + int(name[1:])}"


@contextlib.contextmanager
def _network() -> Iterator[dict[str, str]]:
    """Make a namespace for each node and the hub, on one bridge. Yield the bridge's end of each link."""
    names = ["hub", *(f"n{number}" for number in range(1, NODES + 1))]
    bridge, links = f"{PREFIX}-b", {name: f"{PREFIX}-{name}" for name in names}
    with contextlib.ExitStack() as stack:
        _ip("netns", "add", bridge)
        stack.callback(_ip, "netns", "delete", bridge)
        _ip("-n", bridge, "link", "add", bridge, "type", "bridge")
        _ip("-n", bridge, "link", "set", bridge, "up")
        for name, link in links.items():
            _ip("netns", "add", link)
            stack.callback(_ip, "netns", "delete", link)
            _ip("-n", bridge, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", link)
            _ip("-n", bridge, "link", "set", link, "master", bridge, "up")
            _ip("-n", link, "address", "add", f"{_address(name)}/24", "dev", "eth0")
            _ip("-n", link, "link", "set", "eth0", "up")
            _ip("-n", link, "link", "set", "lo", "up")
            for space, device in ((bridge, link), (link, "eth0")):
                limit = ["tbf", "rate", f"{RATE}bit", "burst", "128kb", "latency", "300ms"]
                subprocess.run(
                    ["ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", device, "root", *limit], check=True
                )
        yield links


def _bytes(link: str) -> list[int]:
    """Return the bytes into the node and out of it, as its end of the bridge counts them."""
    command = ["ip", "-n", f"{PREFIX}-b", "-json", "-statistics", "link", "show", link]
    (state,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return [state["stats64"]["tx"]["bytes"], state["stats64"]["rx"]["bytes"]]


def _nginx(folder: pathlib.Path, name: str, text: str, stack: contextlib.ExitStack) -> None:
    """Start nginx in a namespace until the stack ends."""
    run = folder / f"{name}-run"
    run.mkdir()
    (folder / f"{name}.conf").write_text(text)
    command = [str(nginx_program.program()), "-p", f"{run}/", "-c", str(folder / f"{name}.conf")]
    log = stack.enter_context((folder / f"{name}-nginx.log").open("w"))
    process = subprocess.Popen(["ip", "netns", "exec", f"{PREFIX}-{name}", *command], stderr=log)
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)


def _hub(folder: pathlib.Path, stack: contextlib.ExitStack) -> None:
    """Serve the model as a hub does."""
    files = folder / "hub" / "files"
    files.mkdir(parents=True)
    entries = []
    for number in range(FILES):
        data = os.urandom(FILE)
        name = f"model-{number:05}.safetensors"
        (files / name).write_bytes(data)
        lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": FILE}
        entries.append({"type": "file", "path": name, "size": FILE, "oid": "0" * 40, "lfs": lfs})
    (folder / "hub" / "tree.json").write_text(json.dumps(entries))
    for path in (folder / "hub", files):
        path.chmod(0o755)
    text = HUB_CONFIGURATION.format(address=_address("hub"), port=HUB, folder=folder / "hub")
    _nginx(folder, "hub", text, stack)


def _node(folder: pathlib.Path, name: str, names: list[str], shared: bool, stack: contextlib.ExitStack) -> list[str]:
    """Prepare a node, start its source, and return the command of its fetch."""
    own = folder / name
    (own / REPOSITORY / f".incoming-{REVISION}").mkdir(parents=True)
    (own / REPOSITORY / f".chunks-{REVISION}").mkdir()
    (own / "wanted.json").write_text("{}")
    place = [
        f"--repository={REPOSITORY}",
        f"--revision={REVISION}",
        f"--dir={own}",
        f"--manifest={own / 'wanted.json'}",
    ]
    command = [sys.executable, "-B", *FETCH, "fetch", *place, f"--endpoint=http://{_address('hub')}"]
    if shared:
        pki = weights_source.pki(folder / "tls") if not (folder / "tls").exists() else None
        if pki:
            for one in names:
                pki.server(one)
            _configure(folder, names)
            places = [neighbours.Place(one, _address(one), PORT, True) for one in names]
            neighbours.write_places(folder / "neighbours.json", places)
        _nginx(folder, name, "user root;\n" + (folder / f"{name}.rendered").read_text(), stack)
        lists = [f"--lists={own / REPOSITORY / f'.chunks-{REVISION}'}", f"--chunk={CHUNK}", f"--name={name}"]
        command += [*lists, f"--neighbours={folder / 'neighbours.json'}", f"--tls={folder / 'tls'}"]
    return ["ip", "netns", "exec", f"{PREFIX}-{name}", *command]


def _configure(folder: pathlib.Path, names: list[str]) -> None:
    """Render the role's configuration for each node."""
    for name in names:
        (folder / f"{name}-tls").mkdir()
        shutil.copy(folder / "tls" / f"{name}.pem", folder / f"{name}-tls" / "server.pem")
        shutil.copy(folder / "tls" / "ca.pem", folder / f"{name}-tls" / "ca.pem")
    common = {"weights_repository": REPOSITORY, "weights_revision": REVISION, "weights_port": PORT}
    variables = {
        name: {
            **common,
            **{"weights_dir": str(folder / name), "weights_address": _address(name)},
            "_weights_source_dir": str(folder / f"{name}-tls"),
        }
        for name in names
    }
    nginx_program.configurations(folder, variables)
