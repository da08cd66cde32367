"""Read everything that the role vllm needs to know of a host, in one exec: JSON in, JSON out. Changes nothing.

In: {image, model, template, mark, units: [name], ports: [int]}. Out: {image: bool, model: bool, template: bool, cores: int, gpus: [{node}] in the
order of render nodes, groups: [gid] of the device files, units: [name] that this role wrote, active, starting: [name], taken: [port]}.
Called by tasks/preflight.yml through `python3 -c`.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

NODES = pathlib.Path("/sys/class/kfd/kfd/topology/nodes")


# Seconds that a call to Docker may take: a daemon that hangs never answers.
DOCKER = 60


def has_image(reference: str) -> bool:
    command = ["docker", "image", "inspect", reference]
    try:
        return subprocess.run(command, capture_output=True, timeout=DOCKER).returncode == 0
    except FileNotFoundError:
        return False
    except subprocess.TimeoutExpired:
        sys.exit(
            f"`{' '.join(command)}` gave no answer within {DOCKER} s: the Docker daemon hangs\nwanted: a Docker daemon that answers\n"
            "next: `systemctl restart docker` on the node; where that hangs, too, reboot it"
        )


def gpus() -> list[dict]:
    """Return render nodes of the GPUs of the compute driver, in the order of their numbers."""
    minors = []
    for properties in NODES.glob("*/properties"):
        values = dict(line.split(maxsplit=1) for line in properties.read_text().splitlines() if " " in line)
        if int(values.get("simd_count", "0")) > 0 and int(values.get("drm_render_minor", "0")) > 0:
            minors.append(int(values["drm_render_minor"]))
    return [{"node": f"renderD{minor}"} for minor in sorted(minors)]


def groups(cards: list[dict]) -> list[int]:
    """Return numeric groups of the device files: names differ between host and image, numbers do not."""
    files = [pathlib.Path("/dev/kfd"), *(pathlib.Path("/dev/dri", card["node"]) for card in cards)]
    return sorted({file.stat().st_gid for file in files if file.exists()} - {0})


def active_state(name: str) -> str:
    """Return systemd's ActiveState; "auto-restart" for a start after a failed one: the cause may be repaired by now."""
    command = ["systemctl", "show", f"{name}.service", "-p", "ActiveState,SubState,NRestarts"]
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode:  # no answer does not mean stopped: that would restart the replica
        sys.exit(f"systemctl show {name}.service: {asked.stderr.strip()}\nwanted: a systemd that answers")
    seen = dict(line.split("=", 1) for line in asked.stdout.splitlines())
    state = seen.get("ActiveState", "")
    again = seen.get("SubState") == "auto-restart" or (state == "activating" and seen.get("NRestarts", "0") != "0")
    return "auto-restart" if again else state


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


query = json.load(sys.stdin)
written = {
    file.stem: file.read_text(errors="replace")
    for file in sorted(pathlib.Path("/etc/systemd/system").glob("*.service"))
    if not file.is_symlink() and file.read_text(errors="replace").startswith(query["mark"])
}
states = {name: active_state(name) for name in query["units"]}
ours = {
    port
    for port in query["ports"]
    for text in written.values()
    if re.search(rf"^ExecStartPost=/usr/local/lib/fleet/wait-healthy {port}( |$)", text, re.MULTILINE)
}
cards = gpus()
print(
    json.dumps(
        {
            "image": has_image(query["image"]),
            "model": pathlib.Path(query["model"], "config.json").exists(),
            "template": not query["template"] or pathlib.Path(query["template"]).exists(),
            "cores": os.cpu_count() or 1,
            "gpus": cards,
            "groups": groups(cards),
            "units": list(written),
            "active": [name for name, state in states.items() if state in ("active", "reloading")],
            "starting": [name for name, state in states.items() if state == "activating"],
            "taken": [port for port in query["ports"] if port not in ours and listening(port)],
        }
    )
)
