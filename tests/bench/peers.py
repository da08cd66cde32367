"""The benchmarks' comparisons: the same roles by plain `ansible-playbook --check`, and a plan of 100 machines.

Called by tests/bench/__main__.py. The peer gets exactly the variables in the state of the stack's resources.
"""

import os
import pathlib
import re
import subprocess
import tempfile
import threading
from concurrent import futures
from typing import Any

import yaml

from fleet.provider import gateway
from tests.support.e2e import NODES, Road
from tests.support.environment import expect_success

KINDS = ("host", "image", "weights", "serving")


def check(road: Road) -> None:
    """Run ansible-playbook --check of each playbook over its nodes. Raises AssertionError where one fails or would change something.

    The playbook of the proxies is a process for each node, beside the others: a process has one node's certificates in its environment.
    """
    by_kind: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in (*KINDS, "gateway")}
    for item in road.resources("--show-secrets"):
        kind = item["type"].rpartition(":")[2].lower()
        if kind in by_kind:
            by_kind[kind][item["inputs"]["node"]["name"]] = item
    key = road.outputs()["api_key"]
    with tempfile.TemporaryDirectory(dir=road.home) as folder:
        for kind in KINDS:
            _play(road, folder, kind, by_kind[kind], {"VLLM_API_KEY": key})
        with futures.ThreadPoolExecutor() as pool:
            runs = [
                pool.submit(
                    _play,
                    road,
                    folder,
                    "gateway",
                    {name: item},
                    _proxies_secrets({**item["inputs"], **item["outputs"]}),
                )
                for name, item in by_kind["gateway"].items()
            ]
        for run in runs:
            run.result()


def _proxies_secrets(gateway_state: dict[str, Any]) -> dict[str, str]:
    """Return what the role gateway takes from the environment."""
    pems = {gateway.VARIABLES[name]: pem for name, pem in gateway_state["certificates"].items()}
    return {"VLLM_API_KEY": gateway_state["inner_key"], "GATEWAY_AUTHORITY": gateway_state["authority"], **pems}


def _play(road: Road, folder: str, kind: str, items: dict[str, dict[str, Any]], secrets: dict[str, str]) -> None:
    """Run one playbook with --check over these resources' nodes."""
    inventory = pathlib.Path(folder) / f"{kind}-{'-'.join(items)}.yml"
    hosts = {name: _host(item["inputs"], folder) for name, item in items.items()}
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    command = ["ansible-playbook", "--check", "-i", str(inventory), f"playbooks/{kind}.yml"]
    environment = {**road.env, **secrets, "ANSIBLE_HOST_KEY_CHECKING": "True"}
    run = subprocess.run(command, cwd=road.home, env=environment, text=True, capture_output=True, check=False)
    expect_success(run)
    assert "changed=0" in run.stdout, run.stdout[-3000:]


def _host(inputs: dict[str, Any], folder: str) -> dict[str, Any]:
    node = inputs["node"]
    known_hosts = pathlib.Path(folder) / f"known_hosts-{node['name']}"
    with known_hosts.open("a") as file:
        file.write(f"{node['address']} {node['host_key']}\n")
    return {
        **inputs["vars"],
        "fleet_roles": [*inputs["roles"]],
        "ansible_host": node["address"],
        "ansible_port": int(node["port"]),
        "ansible_user": node["user"],
        "ansible_ssh_private_key_file": node["identity"],
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts} -o StrictHostKeyChecking=yes",
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def engine_start(road: Road) -> float:
    """Return the seconds from the unit's start to its readiness, of the slower node."""
    names = ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    show = "; ".join(f"systemctl show -P {name} glm-0" for name in names)
    spans = []
    for node in NODES:
        start, active = (int(text) for text in road.on(node, show).split())
        spans.append((active - start) / 1e6)
    return round(max(spans), 1)


def many_machines(number: int, road: Road) -> str:
    """Make a stack of many `ssh` machines from the prod stack, and return its name; nobody answers at their addresses."""
    prod = yaml.safe_load((road.home / "stacks" / "Pulumi.prod.yaml").read_text())
    machines = prod["config"]["glm-fleet:nodes"]["machines"]
    key = next(iter(machines.values()))["host_key"]
    # 250 addresses are for documentation; each has as many ports as necessary.
    many = {
        f"prod-{i + 1}": {"address": f"192.0.2.{i % 250 + 1}", "port": 2200 + i // 250, "host_key": key}
        for i in range(number)
    }
    stack = f"of-{number}"
    # In a file of their own: the Pulumi engine cannot pass a stack of a thousand machines to a policy pack.
    (road.home / "stacks" / f"{stack}.yaml").write_text(yaml.safe_dump(many))
    prod["config"]["glm-fleet:nodes"]["machines"] = f"{stack}.yaml"
    (road.home / "stacks" / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump(prod))
    expect_success(road.run("bootstrap/stack.sh", stack))
    return stack


def preview_of(number: int, target: str, road: Road, rows: Any) -> None:
    """Measure a preview of many `ssh` machines."""
    stack = many_machines(number, road)
    peak = Peak()
    resources: set[int] = set()

    def preview() -> None:
        run = road.start("pulumi", "preview", "--stack", stack, "--color", "never", "--policy-pack", "policies")
        with peak.of(run.pid):
            text, _ = run.communicate(timeout=600)
        if run.returncode:
            raise SystemExit(text)
        resources.update(int(count) for count in re.findall(r"(?m)^ *\+ (\d+) to create$", text))

    rows.measure(f"preview of {number} ssh nodes", target, preview, times=3)
    # Figures of stacks with another road, such as one without a gateway, are no figures of this one.
    rows.note(peak_mib=peak.mib, resources=sorted(resources))


class Peak:
    """The largest sum of resident memory of all processes of one session, sampled."""

    def __init__(self) -> None:
        self.mib = 0
        self._stop = threading.Event()

    def of(self, session: int) -> "Peak":
        self._session = session
        self._thread = threading.Thread(target=self._watch, daemon=True)
        return self

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._stop.wait(0.05):
            total = 0
            for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
                try:
                    fields = stat.read_text().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it ended meanwhile
                if int(fields[3]) == self._session:
                    total += int(fields[21]) * page
            self.mib = max(self.mib, total >> 20)
