"""What the way through gateway and node proxy costs: the same client asks a stand-in replica directly, through both, and through others.

The proxies are the role's own files and run as their units do, in namespaces of their own: nothing reaches this machine's network, and no
lab is needed. Needs root and haproxy; a row says what is missing. Called by tests/bench/__main__.py.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from tests.bench import endpoint_others
from tests.support import acme_machines, gateway_pki
from tests.support.acme_machines import Machine

SUPPORT = pathlib.Path(__file__).parents[1] / "support"
CLIENT = pathlib.Path(__file__).with_name("endpoint_client.py")
NAME, ADDRESS = "glm.example", "127.0.0.11"
SOCKET, TCP = "/run/fleet/stand-0/sock", 8001
KEY, REPLICA_KEY = "sk-of-a-client", "sk-of-the-replica"
BODY = 30_000_000  # bytes
SIZES = {"rounds": 300, "streams": 12, "tokens": 100, "bodies": 8, "bytes": BODY}
# What the issue wants, against the replica itself.
TARGETS = {
    "small": ("endpoint: an answer of one token", "p50 <= +1 ms"),
    "stream": ("endpoint: lag of the tokens of a stream, 10 ms apart", "p99 <= +3 ms"),
    "large": (f"endpoint: a body of {BODY // 1_000_000} MB", "p50 <= 1.5 x"),
}
DIRECT, NODE, BOTH = "replica itself", "node proxy", "gateway and node proxy"


def measure(rows: Any, sizes: dict[str, int] = SIZES) -> None:
    """Add the rows of the endpoint, or one that says what is missing."""
    missing = [name for name in ("haproxy", "unshare", "nsenter") if not shutil.which(name)]
    if os.geteuid() or missing:
        lacks = [*missing, *(["root"] if os.geteuid() else [])]
        rows.compare("endpoint", "-", {}, os.getloadavg()[0], not_measured=f"needs {', '.join(lacks)}")
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="glm-fleet-bench-") as name, _machine(pathlib.Path(name)) as place:
        authority = gateway_pki.authority()
        ways = _ways(place, authority)
        others, absent = endpoint_others.start(place, authority, {**ways[DIRECT], "port": TCP})
        results = _ask(place, {**ways, **others}, sizes)
    for part, (what, target) in TARGETS.items():
        rows.compare(what, target, compare(results[part]), load, **absent)


def compare(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return for each way p50 and p99 in milliseconds, their distance from the replica itself, the ratio, the processor's milliseconds."""
    base = results[DIRECT]["figures"]
    return {
        way: {
            **{f"p{percent}_ms": _percentile(one["figures"], percent) for percent in (50, 99)},
            **{f"p{percent}_more_ms": _percentile(one["figures"], percent, base) for percent in (50, 99)},
            "p50_ratio": round(one["figures"][len(one["figures"]) // 2] / base[len(base) // 2], 2),
            "cpu_ms": round(one["cpu"] * 1e3, 2),
        }
        for way, one in results.items()
    }


def table(ways: dict[str, dict[str, float]]) -> list[str]:
    """Return the lines of a table, a way a line; none where there is no way."""
    if not ways:
        return []
    lines = [f"{'':26}{'p50 ms':>10}{'p99 ms':>10}{'p50 more':>10}{'p99 more':>10}{'p50 x':>8}{'CPU ms':>10}"]
    for way, one in ways.items():
        figures = (one["p50_ms"], one["p99_ms"], one["p50_more_ms"], one["p99_more_ms"])
        lines.append(
            f"  {way:24}{''.join(f'{value:10.2f}' for value in figures)}{one['p50_ratio']:8.2f}{one['cpu_ms']:10.2f}"
        )
    return lines


def _percentile(figures: list[float], percent: int, less: list[float] | None = None) -> float:
    value = figures[min(len(figures) - 1, len(figures) * percent // 100)]
    base = less[min(len(less) - 1, len(less) * percent // 100)] if less else 0.0
    return round((value - base) * 1e3, 2)


@contextlib.contextmanager
def _machine(folder: pathlib.Path) -> Iterator[Machine]:
    folder.chmod(0o711)  # the proxies' users enter
    place = acme_machines.machine(folder / "machine", f"127.0.0.1 localhost\n{ADDRESS} {NAME}\n")
    try:
        yield place
    finally:
        place.end()


def _ways(place: Machine, authority: gateway_pki.Authority) -> dict[str, dict[str, Any]]:
    """Start the replica and both proxies; return the ways through them."""
    replica = place.start(
        *("python3", str(SUPPORT / "standin_replica.py"), "0", "fleet-proxy", REPLICA_KEY, SOCKET, str(TCP)),
        log=place.folder / "replica.log",
    )
    place.wait(f"test -S {SOCKET}")
    texts = acme_machines.rendered(("proxy.cfg.j2", "gateway.cfg.j2", "keys.map.j2"), _variables(), place.folder)
    pems = {
        "proxy/node.pem": authority.sign("glm-1", gateway_pki.SERVER),
        "proxy/key.map": f"replica {REPLICA_KEY}\n",
        "gateway/client.pem": authority.sign("glm-1", gateway_pki.CLIENT),
        "gateway/server.pem": authority.sign(NAME, gateway_pki.SERVER),
        "gateway/keys.map": texts["keys.map.j2"],
    }
    for face in ("proxy", "gateway"):
        files = {"ca.pem": authority.pem, "haproxy.cfg": texts[f"{face}.cfg.j2"]}
        own = {path.partition("/")[2]: content for path, content in pems.items() if path.startswith(f"{face}/")}
        for file, content in {**files, **own}.items():
            place.write(f"/etc/fleet/{face}/{file}", content, f"fleet-{face}")
    proxy, gateway = (_proxy(place, face) for face in ("proxy", "gateway"))
    place.wait(f"curl -sfk -m 2 https://{ADDRESS}/v1/models -H 'Authorization: Bearer {KEY}'")
    trust = {"address": ADDRESS, "authority": "/etc/fleet/gateway/ca.pem"}
    own_key = {"key": "any", "own": "/etc/fleet/gateway/client.pem"}
    return {
        DIRECT: {"key": REPLICA_KEY, "socket": SOCKET, "processes": [replica.pid]},
        NODE: {**trust, **own_key, "port": 8443, "processes": [replica.pid, proxy]},
        BOTH: {**trust, "key": KEY, "port": 443, "processes": [replica.pid, proxy, gateway]},
    }


def _variables() -> dict[str, Any]:
    limits = {"requests_per_minute": 1_000_000, "megabytes_per_minute": 1_000_000, "concurrent": 1000}
    machines = [{"name": "glm-1", "address": ADDRESS, "certificate": "glm-1"}]
    return {
        "gateway_faces": ["node", "clients"],
        "gateway_name": "glm-1",
        "gateway_bind_address": ADDRESS,
        "gateway_address": ADDRESS,
        "gateway_nodes": machines,
        "gateway_peers": machines,
        "gateway_names": ["glm-1"],
        "gateway_replicas": [{"name": "stand-0", "model": "m", "socket": SOCKET}],
        "gateway_clients": {"team-a": {"sha256": hashlib.sha256(KEY.encode()).hexdigest(), **limits}},
    }


def _proxy(place: Machine, face: str) -> int:
    """Start HAProxy as its unit does; return its process ID."""
    user = ["--clear-groups", "--ambient-caps=+net_bind_service", "--inh-caps=+net_bind_service"]
    run = ["haproxy", "-W", "-f", f"/etc/fleet/{face}/haproxy.cfg", "-p", f"/run/fleet-{face}/pid"]
    command = ["nice", "-n", "-10", "setpriv", f"--reuid=fleet-{face}", f"--regid=fleet-{face}", *user, *run]
    return place.start(*command, log=place.folder / f"{face}.log").pid


def _ask(place: Machine, ways: dict[str, dict[str, Any]], sizes: dict[str, int]) -> dict[str, Any]:
    job, out = place.folder / "job.json", place.folder / "results.json"
    job.write_text(json.dumps({"ways": ways, **sizes}))
    client = place.start(sys.executable, str(CLIENT), str(job), log=out)
    code = client.wait(1800)
    assert code == 0, out.read_text()[-3000:]
    results: dict[str, Any] = json.loads(out.read_text())
    return results
