"""A real API server of Kubernetes as processes on the loopback: etcd and kube-apiserver, on request with controllers and scheduler.

It has no node and runs no pod. Owns the processes, their folder and ports; needs go for the programs (lab/kubernetes/build.py). Used by
the fixtures of tests/kubernetes.
"""

import contextlib
import datetime
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from lab.kubernetes import build, control_plane, crds, pki

Object = dict[str, Any]
LIMITED = "limited"  # the tests' account that may only read pods of the namespace default
MANAGER = "tests"  # of the fields that `apply` sets
PATIENCE = 120  # seconds for a start, and for the end of a wait
# It has no controllers of its own: nobody makes the accounts that pods have by default.
WITHOUT_CONTROLLERS = "--disable-admission-plugins=ServiceAccount"
# No kubelet reports: else every node would be marked unreachable, and emptied.
CONTROLLERS = "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller"


class RefusedError(Exception):
    """An answer of the API server that is an error: its code, and its message as the text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ApiServer:
    """An API server that answers, with its `etcd`. `kubeconfig` has a context for each entry of `tokens`, among them `admin`, and no current one."""

    def __init__(self, keys: pki.Keys, port: int, kubeconfig: Path, etcd: str) -> None:
        self.url, self.keys, self.kubeconfig, self.etcd = f"https://127.0.0.1:{port}", keys, kubeconfig, etcd
        self.tokens: dict[str, str] = {}
        self._client = httpx.Client(base_url=self.url, verify=_trust(keys.authority), timeout=60, trust_env=False)
        self._places: dict[tuple[str, str], tuple[str, bool]] = {}
        self.add_context(pki.ADMIN, keys.token(pki.ADMIN))

    def request(
        self, method: str, path: str, body: Any = None, *, form: str = "json", context: str = pki.ADMIN, **query: str
    ) -> Any:
        """Return the answer to a request as `context`. `form` is the end of a patch's type, as apply-patch+yaml. Raises RefusedError."""
        response = self._client.request(
            method,
            path,
            params=query,
            content=None if body is None else json.dumps(body),
            headers={"Authorization": f"Bearer {self.tokens[context]}", "Content-Type": f"application/{form}"},
        )
        if response.is_error:
            raise RefusedError(response.status_code, _message(response))
        return response.json() if response.headers["Content-Type"] == "application/json" else response.text

    def apply(self, *objects: Object, dry_run: bool = False, context: str = pki.ADMIN) -> list[Object]:
        """Apply objects on the server, or only let it judge them; return them as it has them."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return [
            self.request("PATCH", self.path(each), each, form="apply-patch+yaml", context=context, **query)
            for each in objects
        ]

    def set_status(self, thing: Object, status: Mapping[str, Any]) -> Object:
        """Merge into an object's status, as its controller or a kubelet would."""
        path = f"{self.path(thing)}/status"
        return self.request("PATCH", path, {"status": status}, form="merge-patch+json")

    def path(self, thing: Object) -> str:
        """Return the path of an object."""
        collection, namespaced = self._place(thing["apiVersion"], thing["kind"])
        root = f"/apis/{thing['apiVersion']}" if "/" in thing["apiVersion"] else f"/api/{thing['apiVersion']}"
        space = f"/namespaces/{thing['metadata'].get('namespace', 'default')}" if namespaced else ""
        return f"{root}{space}/{collection}/{thing['metadata']['name']}"

    def get(self, thing: Object) -> Object:
        """Return an object as the server has it now."""
        return self.request("GET", self.path(thing))

    def pods(self, labels: Mapping[str, str], namespace: str = "default", deleted: bool = False) -> list[Object]:
        """Return the pods with these labels: those that nobody has deleted, or those that are deleted and have not ended."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        pods = self.request("GET", f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
        return [
            {"apiVersion": "v1", "kind": "Pod", **pod}
            for pod in pods
            if deleted == ("deletionTimestamp" in pod["metadata"])
        ]

    def add_account(self, name: str, namespace: str, rules: Sequence[Object], seconds: int = 3600) -> None:
        """Make a service account with these rights in its namespace, and a context of its name."""
        place = {"name": name, "namespace": namespace}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place}
        role = {"apiVersion": f"{_RIGHTS}/v1", "kind": "Role", "metadata": place, "rules": list(rules)}
        binding = {
            "apiVersion": f"{_RIGHTS}/v1",
            "kind": "RoleBinding",
            "metadata": place,
            "roleRef": {"apiGroup": _RIGHTS, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", **place}],
        }
        self.apply(account, role, binding)
        body = {"spec": {"expirationSeconds": seconds}}
        token = self.request("POST", f"{self.path(account)}/token", body)["status"]["token"]
        self.add_context(name, token)

    def add_context(self, name: str, token: str) -> None:
        """Add a context with this token to the kubeconfig, or replace it."""
        self.tokens[name] = token
        self.kubeconfig.write_text(pki.kubeconfig(self.url, self.keys.authority.read_text(), self.tokens))
        self.kubeconfig.chmod(0o600)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _place(self, version: str, kind: str) -> tuple[str, bool]:
        """Return the name of a kind's collection, and whether its objects are in a namespace."""
        if (version, kind) not in self._places:
            root = f"/apis/{version}" if "/" in version else f"/api/{version}"
            for each in self.request("GET", root)["resources"]:
                if "/" not in each["name"]:
                    self._places[version, each["kind"]] = each["name"], each["namespaced"]
        return self._places[version, kind]


_RIGHTS = "rbac.authorization.k8s.io"


@contextlib.contextmanager
def running(folder: Path, controllers: bool = False) -> Iterator[ApiServer]:
    """Start an API server with the definitions of lab/kubernetes/crds.py; with controllers it has a controller manager and a scheduler, too."""
    program = build.ensure("cp" if controllers else "min")[0]
    users = {control_plane.CONTROLLER_MANAGER: "", control_plane.SCHEDULER: ""}
    keys = pki.make(folder / "keys", ["127.0.0.1", "localhost"], users)
    etcd, peers, port = _free_ports(3)
    commands = [
        control_plane.etcd(folder / "etcd", etcd, peers),
        control_plane.api_server(keys, "127.0.0.1", port, etcd, *_server_flags(controllers)),
    ]
    with contextlib.ExitStack() as ended:
        for command in commands:
            ended.enter_context(_process(program, command, folder))
        server = ApiServer(keys, port, folder / "kubeconfig", f"http://127.0.0.1:{etcd}")
        ended.callback(server.close)
        wait(lambda: _answers(server), f"the API server answers; its log is {folder / 'kube-apiserver.log'}")
        if controllers:
            for command in _controllers(server, folder):
                ended.enter_context(_process(program, command, folder))
        definitions = server.apply(*crds.definitions())
        for each in definitions:
            wait(lambda each=each: _is_established(server.get(each)), f"{each['metadata']['name']} is established")
        yield server


def add_node(
    server: ApiServer, name: str, capacity: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> None:
    """Add a node that is ready, without a kubelet."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": dict(labels or {})}}
    server.apply(node)
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", **_times()}
    server.set_status(node, {"capacity": capacity, "allocatable": capacity, "conditions": [ready]})
    # A node begins with a taint, which the controller that is off here removes.
    server.request("PATCH", server.path(node), {"spec": {"taints": None}}, form="merge-patch+json")


def make_ready(server: ApiServer, pod: Object, ready: bool = True) -> None:
    """Report that a pod runs, and whether it is ready, as its node's kubelet would."""
    conditions = [{"type": kind, "status": str(ready), **_times()} for kind in ("Ready", "ContainersReady")]
    server.set_status(pod, {"phase": "Running", "conditions": conditions})


def end_pod(server: ApiServer, pod: Object) -> None:
    """Report that a deleted pod has ended, as its node's kubelet would. Until then it holds its GPUs."""
    server.request("DELETE", server.path(pod), gracePeriodSeconds="0")


def _times() -> dict[str, str]:
    return {"lastTransitionTime": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


def wait(holds: Callable[[], bool], claim: str, seconds: float = PATIENCE) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {claim}"
        time.sleep(0.1)


def _server_flags(controllers: bool) -> list[str]:
    always = [
        "--endpoint-reconciler-type=none",  # it refuses to announce an address of the loopback
        "--allow-privileged=true",  # as kubeadm starts it: what a namespace admits is Pod Security's to say
    ]
    return always if controllers else [*always, WITHOUT_CONTROLLERS]


def _controllers(server: ApiServer, folder: Path) -> list[list[str]]:
    files = {}
    for user in (control_plane.CONTROLLER_MANAGER, control_plane.SCHEDULER):
        tokens = {user: server.keys.token(user)}
        files[user] = folder / f"{user.removeprefix('system:')}.kubeconfig"
        files[user].touch(mode=0o600)
        files[user].write_text(pki.kubeconfig(server.url, server.keys.authority.read_text(), tokens, current=user))
    manager = control_plane.controller_manager(server.keys, files[control_plane.CONTROLLER_MANAGER], CONTROLLERS)
    return [manager, control_plane.scheduler(files[control_plane.SCHEDULER])]


@contextlib.contextmanager
def _process(program: Path, command: Sequence[str], folder: Path) -> Iterator[None]:
    """Run a command of the program with its log in the folder. It ends with this process, whatever ends that."""
    with (folder / f"{command[0]}.log").open("wb") as log:
        guard = ("setpriv", "--pdeathsig", "KILL")
        process = subprocess.Popen([*guard, str(program), *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def _answers(server: ApiServer) -> bool:
    try:
        return bool(server.request("GET", "/readyz") == "ok")
    except (httpx.TransportError, RefusedError):
        return False


def _is_established(definition: Object) -> bool:
    conditions = definition.get("status", {}).get("conditions", [])
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError):
        return response.text


def _trust(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
