"""Runs on the node, as root, with look | run NAME | results | end: measure its GPUs in containers, and leave nothing behind.

Owns /run/fleet-acceptance and the container fleet-acceptance. `look` reads the host (JSON in: {image}) and changes nothing. `run` runs one
benchmark of job.json and prints its progress; a cancelled run stops it (role long_task). `results` prints the output of all benchmarks. `end`
removes the folder, the container, and the image if this run pulled it (the file `pulled`). All but `run` print JSON.
Called by playbooks/acceptance.yml.
"""

import collections
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

FOLDER, CONTAINER = pathlib.Path("/run/fleet-acceptance"), "fleet-acceptance"
KFD = pathlib.Path("/sys/class/kfd/kfd")
MARK = "# glm-fleet replica"  # first line of a replica's unit (roles/vllm)
KEPT = 200_000  # last characters of an output
EVERY = 2.0  # seconds between lines of progress
# Seconds for a call of docker, and for a removal; they do not end if the Docker daemon hangs.
DOCKER, DOCKER_REMOVES = 60, 600


def ask(*command: str) -> subprocess.CompletedProcess:
    limit = None if command[0] != "docker" else DOCKER_REMOVES if "rm" in command else DOCKER
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        sys.exit(
            f"`{' '.join(command)}` gave no answer within {limit} s: the Docker daemon hangs\nwanted: a Docker daemon that answers\n"
            "next: `systemctl restart docker` on the node; where that hangs, too, reboot it"
        )


def gpus() -> list[dict]:
    """Return the GPUs of the compute driver, in the order of their render nodes."""
    cards = []
    for properties in (KFD / "topology" / "nodes").glob("*/properties"):
        values = dict(line.split(maxsplit=1) for line in properties.read_text().splitlines() if " " in line)
        if int(values.get("simd_count", "0")) > 0 and int(values.get("drm_render_minor", "0")) > 0:
            cards.append((int(values["drm_render_minor"]), int(values.get("device_id", "0"))))
    return [{"node": f"renderD{minor}", "device": device} for minor, device in sorted(cards)]


def users() -> list[str]:
    """Return the processes that have the compute driver open."""
    return [
        f"{command.read_text().strip()} ({folder.name})"
        for folder in (KFD / "proc").glob("[0-9]*")
        if (command := pathlib.Path("/proc", folder.name, "comm")).exists()
    ]


def replicas() -> list[str]:
    """Return the units of replicas that run or start."""
    units = [
        file.name
        for file in sorted(pathlib.Path("/etc/systemd/system").glob("*.service"))
        if not file.is_symlink() and file.read_text(errors="replace").startswith(MARK)
    ]
    return [unit for unit in units if ask("systemctl", "is-active", unit).stdout.strip() not in ("inactive", "failed")]


def look(image: str) -> dict:
    cards, docker = gpus(), bool(shutil.which("docker")) and ask("docker", "info").returncode == 0
    files = [pathlib.Path("/dev/kfd"), *(pathlib.Path("/dev/dri", card["node"]) for card in cards)]
    return {
        "engine": docker,
        "image": docker and ask("docker", "image", "inspect", image).returncode == 0,
        "gpus": cards,
        "groups": sorted({file.stat().st_gid for file in files if file.exists()} - {0}),
        "replicas": replicas(),
        "users": users(),
        "measuring": docker and bool(ask("docker", "ps", "--quiet", f"--filter=name=^{CONTAINER}$").stdout.strip()),
    }


def command(job: dict, benchmark: dict) -> list[str]:
    """Return the command of the container: only the host's GPUs, no rights but those of `options`, no network."""
    first, *more = benchmark["command"]
    return [
        *("docker", "run", "--rm", f"--name={CONTAINER}", "--pull=never", "--init", "--log-driver=none"),
        *("--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges", *job["options"]),
        *("--device=/dev/kfd", *(f"--device=/dev/dri/{card['node']}" for card in job["gpus"])),
        *(f"--group-add={group}" for group in job["groups"]),
        *(f"--entrypoint={first}", job["image"], *more),
    ]


def kill(*_: object) -> None:
    ask("docker", "rm", "--force", CONTAINER)


def run(name: str) -> None:
    job = json.loads((FOLDER / "job.json").read_text())
    number, benchmark = next(item for item in enumerate(job["benchmarks"], 1) if item[1]["name"] == name)
    kill()
    signal.signal(signal.SIGTERM, kill)  # a cancelled run: without its container, `docker run` and this program end
    output, kept, started = collections.deque(), 0, time.monotonic()
    process = subprocess.Popen(
        command(job, benchmark), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    late = threading.Event()
    timer = threading.Timer(benchmark["timeout"], lambda: (late.set(), kill()))
    timer.start()
    reported = 0.0
    for line in process.stdout:
        output.append(line)
        kept += len(line)
        while kept > KEPT and len(output) > 1:
            kept -= len(output.popleft())
        if line.strip() and time.monotonic() - reported > EVERY:
            reported = time.monotonic()
            print(f"{name}, {number} of {len(job['benchmarks'])}: {line.strip()[:80]}", flush=True)
    rc = process.wait()
    timer.cancel()
    seconds, text = round(time.monotonic() - started, 1), "".join(output)[-KEPT:]
    result = {"rc": None if late.is_set() else rc, "seconds": seconds, "timed_out": late.is_set(), "output": text}
    (FOLDER / f"{name}.json").write_text(json.dumps(result))


def results() -> dict:
    names = [benchmark["name"] for benchmark in json.loads((FOLDER / "job.json").read_text())["benchmarks"]]
    return {
        name: json.loads((FOLDER / f"{name}.json").read_text()) for name in names if (FOLDER / f"{name}.json").exists()
    }


def end() -> dict:
    """Remove everything; return what remains: an image that something else uses."""
    kill()
    stays = []
    if (FOLDER / "pulled").exists():
        removed = ask("docker", "image", "rm", (FOLDER / "pulled").read_text().strip())
        stays = [removed.stderr.strip()] if removed.returncode else []
    shutil.rmtree(FOLDER, ignore_errors=True)
    return {"stays": stays}


if sys.argv[1] == "look":
    print(json.dumps(look(json.load(sys.stdin)["image"])))
elif sys.argv[1] == "run":
    run(sys.argv[2])
else:
    print(json.dumps({"results": results, "end": end}[sys.argv[1]]()))
