"""The road onto the lab's cluster: a copy of the project with its own Pulumi state, cluster and stack, and clients in a pod of that cluster.

Needs what `make up STACK=lab-kubernetes` needs. Used by tests/kubernetes. The stack's name is the lab's, which protects the user's.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from fleet import probes
from lab.kubernetes import cluster
from tests.support import e2e, load_client
from tests.support.environment import expect_success, forget_secrets, user_environment

SPACE, CLIENTS = "glm", "clients"  # namespaces
WORKERS = 4  # clients
ENDED = 300  # seconds until clients have ended after their running requests
FILES = "/clients"  # in their pod
OPTIONS = ("--policy-pack", "policies", "--color", "never")
GATEWAY_PORT = 8088
# What a gateway before the Service needs so that no change interrupts its clients, as the role gateway has it: a kept connection ends here,
# each request takes a connection of its own to a pod, and what has begun is never sent twice.
GATEWAY = """
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  retries 3
  retry-on conn-failure 503
  option http-buffer-request
  option http-server-close
  http-reuse never
listen gateway
  bind :{port}
  server service {address}:80
"""


class ClusterRoad:
    """One stack on one cluster of the lab; both have the name `stack`."""

    def __init__(self, home: pathlib.Path, stack: str) -> None:
        self.home, self.stack = home, stack
        e2e.copy_project(home)
        forget_secrets(home)
        stacks = home / "stacks"
        shutil.copy2(stacks / "Pulumi.lab-kubernetes.yaml", stacks / f"Pulumi.{stack}.yaml")
        own = user_environment(home)
        self.env = {**own, "PATH": f"{own['PATH']}:{home / 'lab' / 'kubernetes' / 'plugin'}", "NO_COLOR": "1"}

    def run(self, *command: str, timeout: float = e2e.UP, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as a user would; both streams in one output."""
        return subprocess.run(
            command, cwd=self.home, env=self.env, text=True, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, input=stdin,
        )  # fmt: skip

    def make(self, verb: str) -> subprocess.CompletedProcess[str]:
        """Do what `make up` or `make down` of the stack does."""
        return self.run(f"bootstrap/{verb}.sh", self.stack)

    def up(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run("pulumi", "up", "--yes", "--skip-preview", *OPTIONS, "--stack", self.stack, *more)

    def preview(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run("pulumi", "preview", *OPTIONS, "--stack", self.stack, *more)

    def fleet(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("fleet", verb, "-s", self.stack, *arguments)

    def set_length(self, tokens: int) -> None:
        """Change the longest context that the model takes."""
        self.set('vars.vllm_flags["max-model-len"]', str(tokens))

    def set(self, path: str, value: str) -> None:
        """Set a value of the stack file."""
        expect_success(self.run("pulumi", "config", "set", "--path", f"glm-fleet:{path}", value, "--stack", self.stack))

    def set_key(self, key: str) -> None:
        command = ("pulumi", "config", "set", "--secret", "vllm_api_key", "--stack", self.stack)
        expect_success(self.run(*command, stdin=key))

    def output(self, name: str) -> str:
        return expect_success(
            self.run("pulumi", "stack", "output", name, "--show-secrets", "--stack", self.stack)
        ).strip()

    def setting(self, path: str) -> str:
        """Return a value of the stack file."""
        return expect_success(self.run("pulumi", "config", "get", "--path", path, "--stack", self.stack)).strip()

    def kubectl(self, *words: str, stdin: bytes | None = None) -> str:
        """Run kubectl as the cluster's administrator."""
        kubeconfig = self.home / ".pulumi" / "lab" / self.stack / "kubeconfig"
        return cluster.kubectl(kubeconfig, *words, stdin=stdin)

    def pods(self) -> dict[str, str]:
        """Return the node of each ready pod of the model, by the pod's id."""
        items = json.loads(self.kubectl("get", "pods", f"--namespace={SPACE}", "--output=json"))["items"]
        return {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in items if _ready(pod)}

    def wait_for_pods(self, nodes: Sequence[str] = (), seconds: float = e2e.BACK) -> None:
        """Wait until there are exactly two ready pods, on these nodes."""
        end = time.monotonic() + seconds
        while len(places := sorted(self.pods().values())) != 2 or places != sorted(nodes or places):
            assert time.monotonic() < end, self.kubectl("get", "pods", f"--namespace={SPACE}", "--output=wide")
            time.sleep(1)

    def power(self, verb: str, *machines: str) -> None:
        """Start or stop machines of the cluster at once, as a power switch does."""
        options = ("--time=0",) if verb == "stop" else ()
        expect_success(self.run("docker", verb, *options, *(f"{self.stack}-{name}" for name in machines)))

    def clients(self, key: str = "") -> "PodClients":
        """Return clients of the Service that connect for each request, with the stack's key or another."""
        return self._clients(self._service(), 80, key, kept=False)

    def clients_of_gateway(self) -> "PodClients":
        """Start a gateway before the Service, on the first node, and return clients that keep their connections to it."""
        text = GATEWAY.format(port=GATEWAY_PORT, address=self._service())
        start = (
            "command -v haproxy >/dev/null || { apt-get update && apt-get install -y --no-install-recommends haproxy; };"
            "cat > /run/gateway.cfg && haproxy -D -f /run/gateway.cfg"
        )
        expect_success(self.run("docker", "exec", "-i", f"{self.stack}-glm-1", "sh", "-ec", start, stdin=text))
        address = '--output=jsonpath={.status.addresses[?(@.type=="InternalIP")].address}'
        return self._clients(self.kubectl("get", "node/glm-1", address), GATEWAY_PORT, kept=True)

    def _service(self) -> str:
        return self.kubectl("get", "service/glm", f"--namespace={SPACE}", "--output=jsonpath={.spec.clusterIP}")

    def _clients(self, address: str, port: int, key: str = "", *, kept: bool) -> "PodClients":
        """Return clients in a pod, who ask while the context lasts."""
        picture = probes.load(["bottle-grounding"])[0].body(self.setting("vars.vllm_served_model_name"))
        target = load_client.Target(
            name=address, addresses=[address], port=port, authority=None, key=key or self.output("api_key"), picture=picture, kept=kept
        )  # fmt: skip
        return PodClients(self, target)

    def paste(self) -> str:
        """Paste the two lines that `fleet show` ends with, and return the model's answer."""
        lines = expect_success(self.fleet("show")).splitlines()
        tunnel, ask = (next(line for line in lines if f"; fleet {verb} " in line) for verb in ("forward", "request"))
        with subprocess.Popen(
            ["bash", "-c", tunnel],
            cwd=self.home,
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                assert process.stdout is not None
                assert "answers at" in process.stdout.readline()
                answer = expect_success(self.run("bash", "-c", ask))
            finally:
                os.killpg(process.pid, signal.SIGTERM)
        body = json.loads(answer[answer.index("{") :])
        assert "choices" in body, body
        return str(body["choices"][0]["message"]["content"]).strip()

    def left_overs(self) -> list[str]:
        """Return what of the cluster is still on this machine; nothing after `make down`."""
        label = f"label=glm-fleet-lab={self.stack}"
        looks = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        left = [expect_success(self.run("docker", *look, "--quiet", "--filter", label)) for look in looks]
        return [*"".join(left).split(), *(line for line in e2e.processes() if str(self.home) in line)]


class PodClients(load_client.Reports):
    """Clients in a pod that reports on its standard output."""

    def __init__(self, road: ClusterRoad, target: load_client.Target) -> None:
        self._road = road
        files = {"load_client.py": pathlib.Path(load_client.__file__).read_text()}
        files["job.json"] = load_client.job(target, WORKERS)
        self._objects = _objects(road.setting("kubernetes.image"), files)

    def __enter__(self) -> Self:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CLIENTS}}
        self._road.kubectl("apply", "--filename=-", stdin=json.dumps(space).encode())
        self._kubectl("wait", "--for=create", f"--timeout={ENDED}s", "serviceaccount/default")  # no pod before it
        self._kubectl("apply", "--filename=-", stdin=json.dumps(self._objects).encode())
        self._kubectl("wait", "--for=condition=Ready", f"--timeout={ENDED}s", "pod/clients")
        return self

    def __exit__(self, *_: object) -> None:
        self._kubectl("delete", "pod/clients", "secret/clients", "--wait")

    def text(self) -> str:
        return self._kubectl("logs", "clients")

    def end(self) -> load_client.Sums:
        """End the clients after their running requests, and return the sums."""
        self._kubectl("exec", "clients", "--", "python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        self._kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"--timeout={ENDED}s", "pod/clients")
        return load_client.sums([json.loads(line) for line in self.text().splitlines()])

    def _kubectl(self, *words: str, stdin: bytes | None = None) -> str:
        return self._road.kubectl(f"--namespace={CLIENTS}", *words, stdin=stdin)


def _objects(image: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Return the clients' files and pod. The pod may run where nothing else may."""
    container = {
        "name": "clients",
        "image": image,
        "command": ["python3", "-u", f"{FILES}/load_client.py", f"{FILES}/job.json", "/dev/stdout"],
        "volumeMounts": [{"name": "files", "mountPath": FILES}],
    }
    pod = {
        "restartPolicy": "Never",
        "nodeName": "glm-1",  # the tests stop and drain the other one
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "files", "secret": {"secretName": "clients"}}],
    }
    labels = {"glm-fleet/client": "true"}
    items = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clients"}, "stringData": files},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "clients", "labels": labels}, "spec": pod},
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return "deletionTimestamp" not in pod["metadata"] and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )
