"""Read everything that the role gateway needs to know of a host, in one exec: JSON in, JSON out. Changes nothing.

In: {faces: [{unit, name}], ports: {unit: [port]}, record: path of baseline.py's record}. Out: {system, version: of HAProxy, installed or to be
installed, "" if apt knows none, installed: bool, known: bool, before: bool, whether the package was installed before the first run, foreign: bool, whether its
unit runs then or is enabled, units: [unit that this role wrote], active: [unit], taken: [port]}. Needs dpkg, apt-cache, systemctl. Called by tasks/preflight.yml through `python3 -c`.
"""

import errno
import json
import pathlib
import re
import socket
import subprocess
import sys


def out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def system() -> str:
    lines = pathlib.Path("/etc/os-release").read_text().splitlines()
    release = {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
    return release.get("PRETTY_NAME") or release.get("ID", "an unknown system")


def upstream(version: str) -> str:
    """Return the version without Debian's epoch and revision."""
    match = re.match(r"(?:\d+:)?(\d+(?:\.\d+)+)", version)
    return match[1] if match else ""


def listening(port: int) -> bool:
    return is_taken(socket.AF_INET, "0.0.0.0", port) or (socket.has_ipv6 and is_taken(socket.AF_INET6, "::", port))


def is_taken(family: socket.AddressFamily, every: str, port: int) -> bool:
    """Return whether a process listens on a port, on any address of a family; not in a kernel without the family."""
    try:
        probe = socket.socket(family)
    except OSError:
        return False
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((every, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def own_ports(name: str) -> set[int]:
    """Return the ports in the configuration of one of our proxies."""
    file = pathlib.Path(f"/etc/fleet/{name}/haproxy.cfg")
    text = file.read_text() if file.exists() else ""
    return {int(port) for port in re.findall(r"^  bind \S+:(\d+)", text, re.MULTILINE)}


query = json.load(sys.stdin)
installed = out("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", "haproxy").split()
installed = installed[1] if installed[:1] == ["ii"] else ""
policy = re.search(r"Candidate: (\d\S*)", out("apt-cache", "policy", "haproxy"))
record = pathlib.Path(query["record"])
packages = json.loads(record.read_text())["packages"] if record.exists() else ["haproxy"] if installed else []
states = {unit: out("systemctl", "is-active", unit).strip() for unit in ("haproxy", *query["ports"])}
enabled = out("systemctl", "is-enabled", "haproxy").strip() == "enabled"
units = [
    face["unit"] for face in query["faces"] if pathlib.Path(f"/etc/systemd/system/{face['unit']}.service").exists()
]
ours = {port for face in query["faces"] if states[face["unit"]] == "active" for port in own_ports(face["name"])}
print(
    json.dumps(
        {
            "system": system(),
            "version": upstream(installed or (policy[1] if policy else "")),
            "installed": bool(installed),
            "known": bool(policy),
            "units": units,
            "active": [unit for unit in query["ports"] if states[unit] in ("active", "reloading")],
            "before": "haproxy" in packages,
            "foreign": "haproxy" in packages and (states["haproxy"] == "active" or enabled),
            "taken": [
                port for ports in query["ports"].values() for port in ports if port not in ours and listening(port)
            ],
        }
    )
)
