"""The drift check and the preflight of 32 machines: `pulumi preview --refresh` and `fleet preflight` of such a stack, on copies of a deployed node.

A machine as small as this cannot run 32 serving replicas. So each copy has everything of the roles but Docker's images, its replica is off,
and its state expects that. Connections, reads, comparison and the preview are the real ones, over the managed sets of the whole road. Called
by tests/bench/__main__.py; needs a stack that is up and 9 GB of memory (270 MB a node with its Docker daemon), and restores the stack but for
a stopped replica. All nodes share this machine's kernel: if another lab changes a setting of it, that is drift on all of them.
"""

import contextlib
import copy
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import yaml

from fleet import ssh
from fleet.managed import managed_set, reader
from lab import machine
from tests.support.e2e import STACK, Road
from tests.support.environment import expect_success

NODES = [f"many-{number}" for number in range(1, 33)]
SOURCE, SYSTEM, GPUS = "glm-1", "ubuntu-24.04", 8
FORKS = 8  # of the peer: 32 would need more memory than 32 nodes leave
BOOT = 600  # seconds: 32 nodes start at once
# sshd logs each command; the replica stays off, and no unit changes its state later.
PREPARE = """
systemctl disable --now glm-0.service
echo LogLevel VERBOSE >/etc/ssh/sshd_config.d/10-bench.conf
"""
SETTLED = "systemctl is-system-running --wait >/dev/null; systemctl is-active -q docker && docker info >/dev/null"
# With the lines of sshd that the journal has not written yet.
EXECS = "journalctl --sync; journalctl -u ssh -o cat | grep -c 'Starting session: command' || true"


def measure(road: Road, rows: Any) -> None:
    """Make the copies, measure, remove them."""
    with _copies(road) as targets, _state(road, targets):
        before = _execs(road)
        ours = rows.measure(
            f"pulumi preview --refresh, {len(NODES)} nodes (copies of one that went the road, replicas off)",
            "<= 5 s, one exec a node",
            lambda: expect_success(road.preview("--refresh", "--expect-no-changes")),
            times=3,
        )
        after = _execs(road)
        rows.note(nodes=len(NODES), execs_a_node=sorted({(after[name] - before[name]) / 3 for name in NODES}))
        rows.measure(
            f"fleet preflight, the same {len(NODES)} nodes",
            "<= 15 s",
            lambda: expect_success(road.run("python", "-m", "fleet.cli.main", "preflight", "-s", STACK)),
            times=3,
        )
        peer = rows.measure(
            f"ansible -m setup --forks {FORKS}, the same {len(NODES)} nodes", "-", lambda: _setup(road, targets)
        )
        rows.note(ratio=round(peer / ours, 1))


@contextlib.contextmanager
def _copies(road: Road) -> Iterator[dict[str, ssh.Target]]:
    image, folder = f"{road.lab}-many", road.home / ".pulumi" / "lab" / road.lab
    road.on(SOURCE, PREPARE)
    subprocess.run(["docker", "commit", f"{road.lab}-{SOURCE}", image], check=True, stdout=subprocess.DEVNULL)
    try:
        targets = {}
        for name in NODES:
            inputs = machine.create(road.lab, name, SYSTEM, GPUS, folder, image)
            targets[name] = ssh.Target.from_inputs({"name": name, **inputs})
        with futures.ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda target: ssh.wait(target, BOOT, lambda _: None), targets.values()):
                pass
            for _ in pool.map(lambda name: road.on(name, SETTLED), NODES):
                pass
        yield targets
    finally:
        for name in NODES:
            machine.remove(road.lab, name)
        subprocess.run(["docker", "rmi", "--force", image], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def _state(road: Road, targets: dict[str, ssh.Target]) -> Iterator[None]:
    """Replace the stack's own state and file by those of the copies, until the end of the block."""
    stack = road.home / "stacks" / f"Pulumi.{STACK}.yaml"
    own_text, own = stack.read_text(), _export(road)
    try:
        values = yaml.safe_load(own_text)
        values["config"]["glm-fleet:nodes"]["machines"] = {name: {"system": SYSTEM, "gpus": GPUS} for name in NODES}
        del values["config"]["glm-fleet:gateway"]
        values["config"].pop("glm-fleet:clients", None)
        stack.write_text(yaml.safe_dump(values, sort_keys=False))
        _import(road, _for_all(own, targets))
        yield
    finally:
        stack.write_text(own_text)
        _import(road, own)


def _for_all(own: dict[str, Any], targets: dict[str, ssh.Target]) -> dict[str, Any]:
    """Return the state with each resource of the source once for every copy, with its connection and its present state as the expected one."""
    state = copy.deepcopy(own)
    shared, each = [], []
    for item in state["deployment"]["resources"]:
        urn, kind = item["urn"], item["type"].rpartition(":")[2]
        if urn.endswith(("::glm-2", "::client")) or kind in ("Gateway", "Authority"):
            continue
        (each if urn.endswith(f"::{SOURCE}") and kind != "Image" else shared).append(item)
    with futures.ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda target: _for_one(each, target), targets.values())
        items = [item for part in parts for item in part]
    first = next(iter(targets.values()))
    image = _for_one([item for item in shared if item["type"].endswith(":Image")], first)
    top = [item for item in shared if not item["type"].endswith(":Image")]
    for site in (item for item in top if item["type"] == "lab:index:Site"):
        for side in ("inputs", "outputs"):
            site[side]["systems"] = [SYSTEM]
    hosts = [item for item in items if not item["type"].endswith(("Serving", "Weights"))]
    rest = [item for item in items if item["type"].endswith(("Serving", "Weights"))]
    state["deployment"]["resources"] = [*top, *hosts, *image, *rest]
    return state


def _for_one(items: list[dict[str, Any]], target: ssh.Target) -> list[dict[str, Any]]:
    text = json.dumps(items).replace(f"::{SOURCE}", f"::{target.name}").replace(f'"{SOURCE}"', f'"{target.name}"')
    mine: list[dict[str, Any]] = json.loads(text)
    image = f"::{NODES[0]}"
    place = {"address": target.address, "host_key": target.host_key, "identity": target.identity}
    for item in mine:
        for side in (item.get("inputs") or {}, item.get("outputs") or {}):
            for there in (side, side.get("node"), side.get("connection")):
                if isinstance(there, dict) and "host_key" in there:
                    there.update(place)
        dependencies = item.get("dependencies") or []
        item["dependencies"] = [_builder(urn, image) for urn in dependencies]
        item["propertyDependencies"] = {
            key: [_builder(urn, image) for urn in urns or []]
            for key, urns in (item.get("propertyDependencies") or {}).items()
        }
    managed = [item["outputs"]["managed"] for item in mine if "managed" in item["outputs"]]
    declared = [managed_set.Declared.from_json(part["declared"]) for part in managed]
    for part, state in zip(managed, reader.read_many(target, declared), strict=True):
        part["expected"] = state
    return mine


def _builder(urn: str, image: str) -> str:
    """Return the URN, an Image's moved to the first node, its only builder."""
    head, _, _ = urn.rpartition("::")
    return f"{head}{image}" if ":Image" in head.rpartition("$")[2] else urn


def _execs(road: Road) -> dict[str, int]:
    return {name: int(road.on(name, EXECS)) for name in NODES}


def _setup(road: Road, targets: dict[str, ssh.Target]) -> None:
    """Gather facts, as an Ansible run does before its first task, on all nodes, some at once."""
    with tempfile.TemporaryDirectory(dir=road.home) as folder:
        known_hosts = pathlib.Path(folder) / "known_hosts"
        known_hosts.write_text("".join(f"{target.address} {target.host_key}\n" for target in targets.values()))
        hosts = {
            name: {
                "ansible_host": target.address,
                "ansible_user": target.user,
                "ansible_ssh_private_key_file": target.identity,
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts} -o StrictHostKeyChecking=yes",
                "ansible_python_interpreter": "/usr/bin/python3",
            }
            for name, target in targets.items()
        }
        inventory = pathlib.Path(folder) / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        command = ["ansible", "all", "-i", str(inventory), "-m", "ansible.builtin.setup", "--forks", str(FORKS), "-o"]
        expect_success(
            subprocess.run(command, cwd=road.home, env=road.env, text=True, capture_output=True, check=False)
        )


def _export(road: Road) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(expect_success(road.run("pulumi", "stack", "export", "--stack", STACK)))
    return state


def _import(road: Road, state: dict[str, Any]) -> None:
    with tempfile.NamedTemporaryFile("w", dir=road.home, suffix=".json") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
        expect_success(road.run("pulumi", "stack", "import", "--stack", STACK, "--file", file.name))
