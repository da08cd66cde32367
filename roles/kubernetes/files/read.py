"""Read everything that the role kubernetes needs to know of a host, in one exec: JSON in, JSON out. Changes nothing.

In: {packages: ["name" or "name=version"], runtime: name of containerd's package, key: armoured, begun, member, upgrade: path of the role's marks,
units: {unit: [file that it reads]}, ports: [port], endpoint: HOST:PORT at which nothing may answer yet, or ""}. Out: {system, missing: [package], unknown: [such a package that apt does not know],
installed: {package: version}, runtime: version of containerd, installed or to be installed, begun: bool, upgrading: bool, member: what the machine is, "" before
the join, foreign: [sign of another cluster], others: [what cannot be on a member], swap: [device], stale: [active unit with files that are newer
than its start], taken: [port], answers: bool, fingerprint}. Needs dpkg, apt-cache, systemctl. Called by tasks/preflight.yml through `python3 -c`, after
roles/host/files/openpgp.py (fingerprints).
"""

import errno
import fnmatch
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys

SIGNS = ("/etc/kubernetes/kubelet.conf", "/etc/kubernetes/manifests/kube-apiserver.yaml", "/var/lib/etcd/member")
REPLICA = re.compile(r"glm-[a-z0-9.-]+\.service")


def out(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def candidate(name: str) -> str:
    """Return the version that apt would install; "" if it knows none."""
    seen = re.search(r"^  Candidate: (\S+)$", out("apt-cache", "policy", name), re.MULTILINE)
    return seen[1] if seen and seen[1] != "(none)" else ""


def others() -> list[str]:
    """Return what cannot be on a member: another owner of containers and of the rules of their network, and replicas of this project."""
    found = [name for name in ("dockerd", "k3s", "rke2", "microk8s") if shutil.which(name, path=PROGRAMS)]
    units = out("systemctl", "list-unit-files", "--plain", "--no-legend", "glm-*.service").split()
    return found + [unit for unit in units if REPLICA.fullmatch(unit)]


def swaps() -> list[str]:
    return [line.split()[0] for line in text("/proc/swaps").splitlines()[1:]]


def stale(unit: str, files: list[str]) -> bool:
    """Return whether an active unit was started before one of its files was written."""
    shown = out("systemctl", "show", "--property=ActiveState,ExecMainStartTimestamp", "--timestamp=unix", unit)
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    started = re.fullmatch(r"@(\d+)", values.get("ExecMainStartTimestamp", ""))
    written = [pathlib.Path(file).stat().st_mtime for file in files if pathlib.Path(file).exists()]
    return values.get("ActiveState") == "active" and bool(started) and max(written, default=0) >= int(started[1]) + 1


def taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def answers(endpoint: str) -> bool:
    """Return whether a process listens at HOST:PORT."""
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except (OSError, ValueError):
        return False
    return True


PROGRAMS = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/snap/bin"
query = json.load(sys.stdin)
installed = {
    words[1].split(":")[0]: words[2]
    for line in out("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\n").splitlines()
    if (words := line.split())[0][1:2] == "i"
}
pins = {package.partition("=")[0]: package.partition("=")[2] or "*" for package in query["packages"]}
missing = [name for name, pin in pins.items() if not fnmatch.fnmatchcase(installed.get(name, ""), pin)]
missing += [name for name in pins if name not in installed and name not in missing]
member, begun = text(query["member"]).strip(), pathlib.Path(query["begun"]).exists()
release = dict(line.split("=", 1) for line in text("/etc/os-release").splitlines() if "=" in line)
print(
    json.dumps(
        {
            "system": release.get("PRETTY_NAME", "an unknown system").strip('"'),
            "missing": missing,
            "unknown": [name for name in missing if not candidate(name)],
            "installed": {name: installed[name] for name in pins if name in installed},
            "runtime": installed.get(query["runtime"]) or candidate(query["runtime"]),
            "begun": begun,
            "upgrading": pathlib.Path(query["upgrade"]).exists(),
            "member": member,
            "foreign": [] if begun or member else [sign for sign in SIGNS if pathlib.Path(sign).exists()],
            "others": others(),
            "swap": swaps(),
            "stale": [unit for unit, files in query["units"].items() if stale(unit, files)],
            "taken": [] if begun or member else [port for port in query["ports"] if taken(port)],
            "answers": not begun and not member and answers(query["endpoint"]),
            "fingerprint": " and ".join(fingerprints(query["key"].encode())),  # noqa: F821 openpgp.py
        }
    )
)
