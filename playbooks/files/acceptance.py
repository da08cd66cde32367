"""look | run NAME | results | end: measures a host's GPUs with containers, and leaves nothing of that behind.

Owns /run/fleet-acceptance and the container fleet-acceptance. `look` reads the host (JSON in: {image}) and changes nothing; `run` is one benchmark
of job.json there, as work of a transient unit (role long_task), which a cancelled run stops; `results` tells what all of them printed; `end` removes
the folder, the container, and the image where it was not there before (the file `pulled` says so). All print JSON, but `run`: where it stands.
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

HERE, CONTAINER = pathlib.Path("/run/fleet-acceptance"), "fleet-acceptance"
KFD = pathlib.Path("/sys/class/kfd/kfd")
MARK = "# glm-fleet replica"  # the first line of a replica's unit: roles/vllm
KEPT = 200_000  # characters of an output, the newest
EVERY = 2.0
# Seconds that a call to Docker may take, and a removal: a daemon that hangs gives no answer for ever.
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
    """The GPUs that the compute driver knows, in the order of their render nodes."""
    found = []
    for properties in (KFD / "topology" / "nodes").glob("*/properties"):
        values = dict(line.split(maxsplit=1) for line in properties.read_text().splitlines() if " " in line)
        if int(values.get("simd_count", "0")) > 0 and int(values.get("drm_render_minor", "0")) > 0:
            found.append((int(values["drm_render_minor"]), int(values.get("device_id", "0"))))
    return [{"node": f"renderD{minor}", "device": device} for minor, device in sorted(found)]


def users() -> list[str]:
    """Processes that have the compute driver open."""
    return [
        f"{(pathlib.Path('/proc') / one.name / 'comm').read_text().strip()} ({one.name})"
        for one in (KFD / "proc").glob("[0-9]*")
        if (pathlib.Path("/proc") / one.name / "comm").exists()
    ]


def replicas() -> list[str]:
    """Units of replicas that run, or are about to."""
    units = [
        file.name
        for file in sorted(pathlib.Path("/etc/systemd/system").glob("*.service"))
        if not file.is_symlink() and file.read_text(errors="replace").startswith(MARK)
    ]
    return [unit for unit in units if ask("systemctl", "is-active", unit).stdout.strip() not in ("inactive", "failed")]


def look(image: str) -> dict:
    cards, engine = gpus(), bool(shutil.which("docker")) and ask("docker", "info").returncode == 0
    files = [pathlib.Path("/dev/kfd"), *(pathlib.Path("/dev/dri", card["node"]) for card in cards)]
    return {
        "engine": engine,
        "image": engine and ask("docker", "image", "inspect", image).returncode == 0,
        "gpus": cards,
        "groups": sorted({file.stat().st_gid for file in files if file.exists()} - {0}),
        "replicas": replicas(),
        "users": users(),
        "measuring": engine and bool(ask("docker", "ps", "--quiet", f"--filter=name=^{CONTAINER}$").stdout.strip()),
    }


def command(job: dict, benchmark: dict) -> list[str]:
    """The container: the GPUs and nothing else of the host; no right that `options` does not give, no network."""
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
    job = json.loads((HERE / "job.json").read_text())
    place = next(number for number, one in enumerate(job["benchmarks"]) if one["name"] == name)
    benchmark = job["benchmarks"][place]
    kill()
    signal.signal(signal.SIGTERM, kill)  # a cancelled run: the container goes, its client ends, and so do we
    output, kept, started = collections.deque(), 0, time.monotonic()
    process = subprocess.Popen(
        command(job, benchmark), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    late = threading.Event()
    timer = threading.Timer(benchmark["timeout"], lambda: (late.set(), kill()))
    timer.start()
    told = 0.0
    for line in process.stdout:
        output.append(line)
        kept += len(line)
        while kept > KEPT and len(output) > 1:
            kept -= len(output.popleft())
        if line.strip() and time.monotonic() - told > EVERY:
            told = time.monotonic()
            print(f"{name}, {place + 1} of {len(job['benchmarks'])}: {line.strip()[:80]}", flush=True)
    rc = process.wait()
    timer.cancel()
    ended = {"rc": None if late.is_set() else rc, "seconds": round(time.monotonic() - started, 1)}
    told_all = {**ended, "timed_out": late.is_set(), "output": "".join(output)[-KEPT:]}
    (HERE / f"{name}.json").write_text(json.dumps(told_all))


def results() -> dict:
    names = [one["name"] for one in json.loads((HERE / "job.json").read_text())["benchmarks"]]
    return {name: json.loads((HERE / f"{name}.json").read_text()) for name in names if (HERE / f"{name}.json").exists()}


def end() -> dict:
    """What stays is told: an image that somebody uses by now."""
    kill()
    stays = []
    if (HERE / "pulled").exists():
        removed = ask("docker", "image", "rm", (HERE / "pulled").read_text().strip())
        stays = [removed.stderr.strip()] if removed.returncode else []
    shutil.rmtree(HERE, ignore_errors=True)
    return {"stays": stays}


if sys.argv[1] == "look":
    print(json.dumps(look(json.load(sys.stdin)["image"])))
elif sys.argv[1] == "run":
    run(sys.argv[2])
else:
    print(json.dumps({"results": results, "end": end}[sys.argv[1]]()))
