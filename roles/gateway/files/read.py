"""Read everything that the role gateway needs to know of a host, in one exec: JSON in, JSON out. Changes nothing.

In: {faces: [{unit, name}], packages: [name that this role may install], wanted: [name of these], files: [path that a proxy reads], ports: {unit:
[port]}, record: path of baseline.py's record, address: of this machine, virtual: ADDRESS/PREFIX or ""}. Out: {system, version: of HAProxy,
installed or to be installed, "" if apt knows none, uninstalled: [wanted package], unknown: [such a package that apt does not know, either],
packages: {name: {before: bool, whether it was installed before the first run, foreign: bool, whether its unit runs then or is enabled}}, units:
[unit that this role wrote], active: [unit], unread: [active unit with files that it has not read], taken: [port], acme: bool, whether this role
wrote the unit of ACME, interface: of the address, device: of the virtual address's network, holder: bool, whether the virtual address has a
unit}. Needs dpkg, apt-cache, systemctl, ip. Called by tasks/preflight.yml through `python3 -c`, after roles/host/files/ports.py (listening).
"""

import ipaddress
import json
import pathlib
import re
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


def unread(face: dict[str, str]) -> bool:
    """Return whether a proxy has files that are newer than its last start or reload (proxy-control)."""
    stamp = pathlib.Path(f"/run/{face['unit']}/read")
    files = [pathlib.Path(path) for path in query["files"] if path.startswith(f"/etc/fleet/{face['name']}/")]
    return stamp.exists() and any(
        file.exists() and file.stat().st_mtime_ns > stamp.stat().st_mtime_ns for file in files
    )


def own_ports(name: str) -> set[int]:
    """Return the ports in the configuration of one of our proxies."""
    file = pathlib.Path(f"/etc/fleet/{name}/haproxy.cfg")
    text = file.read_text() if file.exists() else ""
    return {int(port) for port in re.findall(r"^  bind \S+:(\d+)", text, re.MULTILINE)}


def version(package: str) -> str:
    """Return the installed version; "" if it is not installed."""
    status, *rest = out("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", package).split() or [""]
    return rest[0] if status == "ii" else ""


def candidate(package: str) -> str:
    """Return the version that apt would install; "" if it knows none."""
    match = re.search(r"Candidate: (\d\S*)", out("apt-cache", "policy", package))
    return match[1] if match else ""


def look_at(package: str) -> dict:
    """Return whether somebody had installed a package before the first run, and uses its unit."""
    before = package in recorded if recorded is not None else bool(version(package))
    runs = states[package] == "active" or out("systemctl", "is-enabled", package).strip() == "enabled"
    return {"before": before, "foreign": before and runs}


def interfaces() -> dict:
    """Return {interface: its addresses with their networks}."""
    links = json.loads(out("ip", "-json", "address") or "[]")
    return {
        link["ifname"]: [ipaddress.ip_interface(f"{a['local']}/{a['prefixlen']}") for a in link["addr_info"]]
        for link in links
        if "addr_info" in link
    }


def interface_of(address: str) -> str:
    """Return the interface that has an address; "" if none has it."""
    return next((name for name, own in links.items() if address in {str(one.ip) for one in own}), "")


def device_for(virtual: str) -> str:
    """Return the interface with another address in the network of a virtual one; "" if none has one."""
    wanted = ipaddress.ip_interface(virtual)
    return next(
        (name for name, own in links.items() if any(one.ip != wanted.ip and wanted.ip in one.network for one in own)),
        "",
    )


query = json.load(sys.stdin)
record = pathlib.Path(query["record"])
recorded = json.loads(record.read_text())["packages"] if record.exists() else None
states = {unit: out("systemctl", "is-active", unit).strip() for unit in (*query["packages"], *query["ports"])}
units = [
    face["unit"] for face in query["faces"] if pathlib.Path(f"/etc/systemd/system/{face['unit']}.service").exists()
]
uninstalled = [package for package in query["wanted"] if not version(package)]
links = interfaces() if query["virtual"] else {}
ours = {port for face in query["faces"] if states[face["unit"]] == "active" for port in own_ports(face["name"])}
print(
    json.dumps(
        {
            "system": system(),
            "version": upstream(version("haproxy") or candidate("haproxy")),
            "uninstalled": uninstalled,
            "unknown": [package for package in uninstalled if not candidate(package)],
            "packages": {package: look_at(package) for package in query["packages"]},
            "acme": pathlib.Path("/etc/systemd/system/fleet-acme.timer").exists(),
            "units": units,
            "active": [unit for unit in query["ports"] if states[unit] in ("active", "reloading")],
            "unread": [face["unit"] for face in query["faces"] if states[face["unit"]] == "active" and unread(face)],
            "taken": [
                port
                for ports in query["ports"].values()
                for port in ports
                if port not in ours and listening(port)  # noqa: F821 ports.py
            ],
            "interface": interface_of(query["address"]),
            "device": device_for(query["virtual"]) if query["virtual"] else "",
            "holder": pathlib.Path("/etc/systemd/system/fleet-address.service").exists(),
        }
    )
)
