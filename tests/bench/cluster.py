"""The figures of the road onto a Kubernetes cluster: an `up` without a change, and the preview of a hundred models, on a real API server.

The API server, its controllers and its scheduler are real processes of this machine (tests/support/api_server.py), the kubelet is played, and
Pulumi's Kubernetes plugin is the stand-in of the lab: with the vendor's the figures are others. Called by tests/bench/__main__.py; needs Go's
module proxy for the first build of Kubernetes, whose processor seconds `make kubernetes` shows by hand.
"""

import os
import pathlib
import re
import resource
import tempfile
from collections.abc import Callable
from typing import Any

import yaml

from fleet.cluster import nodes
from tests.support import api_server
from tests.support.cluster_project import Project
from tests.support.environment import expect_success
from tests.support.model_rollout import LABEL, SELECTOR
from tests.support.played_kubelet import Kubelet

MODELS = 100
ROOM = {"cpu": "64", "memory": "2000Gi", "pods": "20", nodes.GPU: "8"}
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def measure(rows: Any) -> None:
    """Measure the rows of a cluster."""
    with (
        tempfile.TemporaryDirectory(prefix="glm-fleet-bench-cluster-") as name,
        api_server.running(pathlib.Path(name) / "server", controllers=True) as server,
    ):
        for node in ("gpu-1", "gpu-2"):
            api_server.add_node(server, node, ROOM, {LABEL: SELECTOR[LABEL][0]})
        kubelets = [Kubelet(server, space) for space in ("glm", "glm-weights")]
        try:
            _rows(rows, Project(_folder(name, "few"), server, "glm", release=("glm", "namespace")))
        finally:
            for each in kubelets:
                each.close()
        _preview(rows, Project(_folder(name, "many"), server, "many"))
        rows.note(control_plane_mib=resident(os.getpid()))


def _folder(name: str, part: str) -> pathlib.Path:
    folder = pathlib.Path(name) / part
    folder.mkdir()
    return folder


def _measure(rows: Any, what: str, target: str, work: Callable[[], Any], times: int = 1) -> None:
    """Add a row with the processor seconds of one run: Pulumi, the program, the plugins, the policies; not those of the API server."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows.measure(what, target, work, times)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows.note(cpu_seconds=round(spent / times, 1))


def _rows(rows: Any, project: Project) -> None:
    up = ("up", "--policy-pack", "policies")
    _measure(rows, "first pulumi up on a cluster, pods played", "-", lambda: expect_success(project.change(*up)))
    unchanged = (*up, "--expect-no-changes")
    what = "pulumi up on a cluster, nothing changed"
    _measure(rows, what, "<= 6 s", lambda: expect_success(project.change(*unchanged)), times=3)
    what = "fleet preflight, with a dry run of every object"
    _measure(rows, what, "-", lambda: expect_success(project.verb("preflight")))
    expect_success(project.change("destroy"))


def _preview(rows: Any, project: Project) -> None:
    """Measure the preview of many models with two replicas each, every object judged by the server."""
    stack = yaml.safe_load(project.file.read_text())
    stack["config"]["glm-fleet:kubernetes"]["models"] = {f"glm-{number}": {"replicas": 2} for number in range(MODELS)}
    project.file.write_text(yaml.safe_dump(stack))
    counts: set[int] = set()

    def preview() -> None:
        seen = expect_success(project.change("preview", "--policy-pack", "policies"))
        counts.update(int(count) for count in re.findall(r"(?m)^ *\+ (\d+) to create$", seen))

    _measure(rows, f"preview of {MODELS} models with 2 replicas on a cluster", "<= 15 s", preview, times=3)
    rows.note(resources=sorted(counts))


def resident(parent: int) -> dict[str, int]:
    """Return the resident memory in MiB of the parts of the control plane among the children of a process."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            words = (folder / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        part = next((word for word in words[:2] if word in PARTS), "")
        if part and int(fields[1]) == parent:
            found[part] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") >> 20
    return found
