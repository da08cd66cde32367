"""Claims about machines that become a cluster by the role kubernetes: the genuine kubeadm on two bare nodes of the lab.

Each test reads what one run of the role on each of both has left; one deploys the model there, by a second stack. Packages and images hold the lab's own builds (lab.kubernetes.own_cluster).
"""

import contextlib
import dataclasses
import datetime
import json
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import ssh
from fleet.cli import kubeconfig
from fleet.managed import membership
from fleet.provider import teardown
from lab import site
from lab.commands import run
from lab.kubernetes import build, cluster
from tests.support import lab_members, playbook
from tests.support.cluster_road import ClusterRoad
from tests.support.environment import expect_success
from tests.support.lab_members import Machines

# Two minutes of two idle cores until both are members.
pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(2400)]
LAB = "glm-own-cluster"
GPUS = {"cp-1": 0, "gpu-1": 8}
CONTEXT = cluster.CONTEXT  # by its name the policies know that the registry and hub may be those of the lab
PROGRAMS = ("kubeadm", "kubelet", "kubectl")
# What a run of the role declares of a worker, as the provider's state has it.
DECLARED = {
    **{f"package {name}": True for name in (*PROGRAMS, "containerd")},
    **{"unit kubelet.service": True, "unit containerd.service": True, "sysctl net.ipv4.ip_forward": True},
    **{f"file {path}": True for path in ("/etc/apt/sources.list.d/kubernetes.sources", "/etc/default/kubelet")},
}
# roles/kubernetes/vars: _kubernetes_certificates
CERTIFICATES = {
    **{"pki": "/etc/kubernetes/pki", "manifests": "/etc/kubernetes/manifests", "work": "/etc/kubernetes/fleet"},
    **{
        "programs": ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"],
        "port": 6443,
        "timeout": 300,
    },
}


@dataclasses.dataclass(frozen=True)
class Members(Machines):
    """Two machines, and the runs that made them members, by name."""

    runs: dict[str, playbook.Run]
    tokens: list[str]

    def api(self, *words: str, stdin: str = "") -> Any:
        """Ask the API server from this machine, by the kubeconfig that `fleet kubeconfig` writes."""
        with self.login() as file:
            kubectl = (str(build.binary("cp")), "kubectl", f"--kubeconfig={file}", f"--context={CONTEXT}")
            return run(*kubectl, *words, stdin=stdin.encode() or None)

    @contextlib.contextmanager
    def login(self) -> Iterator[str]:
        """Give the path of the kubeconfig that `fleet kubeconfig` writes."""
        member = self.runs["cp-1"].results["fleet_member"]
        with ssh.connect(self.nodes["cp-1"]) as connection, tempfile.NamedTemporaryFile() as file:
            login = membership.login(connection, "glm-fleet/test", 1)
            file.write(kubeconfig.kubeconfig(CONTEXT, member, login.certificate, login.key).encode())
            file.flush()
            yield file.name

    def again(self, name: str, check: bool = False) -> playbook.Run:
        return playbook.run(self.nodes[name], "member", self.variables[name], {}, check)


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    with lab_members.machines(LAB, GPUS, tmp_path_factory.mktemp("lab") / "keys") as machines:
        nodes, variables = machines.nodes, machines.variables
        made = Members(nodes, variables, machines.site, {}, [])
        made.runs["cp-1"] = playbook.run(nodes["cp-1"], "member", variables["cp-1"], {})
        assert made.runs["cp-1"].rc == 0, made.runs["cp-1"].message
        variables["gpu-1"]["kubernetes_authority"] = made.runs["cp-1"].results["fleet_member"]["authority"]
        with ssh.connect(nodes["cp-1"]) as connection:
            made.tokens.append(membership.ticket(connection, "gpu-1", False).token)
        token = {"KUBERNETES_JOIN_TOKEN": made.tokens[0]}
        made.runs["gpu-1"] = playbook.run(nodes["gpu-1"], "member", variables["gpu-1"], token)
        assert made.runs["gpu-1"].rc == 0, made.runs["gpu-1"].message
        yield made


def test_both_members_are_ready_at_the_pinned_version(members: Members) -> None:
    nodes = {node["metadata"]["name"]: node for node in members.kubectl("get", "nodes", "--output=json")["items"]}
    assert nodes.keys() == GPUS.keys()
    for node in nodes.values():
        ready = next(entry for entry in node["status"]["conditions"] if entry["type"] == "Ready")
        assert ready["status"] == "True"
        assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{members.variables['cp-1']['kubernetes_version']}"


def test_the_member_with_gpus_offers_them_and_has_the_labels_of_amd(members: Members) -> None:
    node = members.kubectl("get", "node", "gpu-1", "--output=json")
    assert node["status"]["allocatable"]["amd.com/gpu"] == "8"
    assert node["metadata"]["labels"]["amd.com/gpu.product-name"] == "AMD_Instinct_MI300X_OAM"


def test_a_control_plane_without_gpus_takes_no_pods_of_users(members: Members) -> None:
    node = members.kubectl("get", "node", "cp-1", "--output=json")
    assert {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"} in node["spec"]["taints"]


@pytest.mark.parametrize("name", GPUS)
def test_a_second_run_changes_nothing_and_needs_no_token(members: Members, name: str) -> None:
    again = members.again(name)
    assert (again.rc, again.changed) == (0, []), again.message
    checked = members.again(name, check=True)
    assert (checked.rc, checked.changed) == (0, []), checked.message


@pytest.mark.parametrize("name", GPUS)
def test_the_packages_are_held(members: Members, name: str) -> None:
    assert set(members.sh(name, "apt-mark showhold").split()) == {"kubeadm", "kubelet", "kubectl"}


def test_no_token_stays_on_a_machine_and_the_makers_own_one_has_ended(members: Members) -> None:
    assert members.sh("gpu-1", f"grep -rlF {members.tokens[0]} /etc /run /var/lib/kubelet || true") == ""
    left = members.sh("cp-1", "KUBECONFIG=/etc/kubernetes/admin.conf kubeadm token list --output=json")
    assert left.count('"token"') <= 1, "only that of the join"


def test_a_pod_gets_the_devices_of_its_gpus(members: Members) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "two-gpus", "namespace": "default"},
        "spec": {
            "containers": [
                {
                    "name": "pod",
                    "image": members.variables["gpu-1"]["kubernetes_pause_image"],
                    "resources": {"limits": {"amd.com/gpu": "2", "cpu": "100m", "memory": "32Mi"}},
                }
            ]
        },
    }
    members.api("apply", "--filename=-", stdin=json.dumps(pod))
    members.api("wait", "--for=condition=Ready", "--timeout=120s", "pod/two-gpus")
    pid = members.sh("gpu-1", "grep -lz ^LAB_GPUS=renderD /proc/[0-9]*/environ | head -1 | cut -d/ -f3").strip()
    assert len(members.sh("gpu-1", f"ls /proc/{pid}/root/dev/dri").split()) == 2
    assert members.sh("gpu-1", f"ls /proc/{pid}/root/dev/kfd").strip()
    members.api("delete", "pod", "two-gpus", "--wait=false")


def test_a_member_reaches_the_api_server_by_its_service(members: Members) -> None:
    """kube-proxy, in an image with its own nft, has written the rules."""
    answer = members.sh("gpu-1", "curl --silent --cacert /etc/kubernetes/pki/ca.crt https://10.96.0.1/healthz")
    assert answer == "ok"


def test_the_kubelet_has_the_settings_of_the_role_over_those_of_kubeadm(members: Members) -> None:
    settings = json.loads(members.api("get", "--raw=/api/v1/nodes/gpu-1/proxy/configz"))["kubeletconfig"]
    assert (settings["cpuManagerPolicy"], settings["topologyManagerPolicy"]) == ("static", "best-effort")
    assert (settings["shutdownGracePeriod"], settings["shutdownGracePeriodCriticalPods"]) == ("6m0s", "30s")
    assert settings["cgroupDriver"] == "cgroupfs"


def test_a_stranger_is_not_let_into_the_cluster(members: Members) -> None:
    code = members.sh(
        "gpu-1", "curl --silent --insecure --output /dev/null --write-out '%{http_code}' https://10.96.0.1/api/v1/nodes"
    )
    assert code == "403"


def test_a_control_plane_says_when_its_certificates_end_and_a_worker_says_nothing(members: Members) -> None:
    ends = datetime.date.fromisoformat(members.runs["cp-1"].results["fleet_member"]["ends"])
    assert 360 <= (ends - datetime.datetime.now(datetime.UTC).date()).days <= 366
    assert members.runs["gpu-1"].results["fleet_member"]["ends"] == ""


def test_certificates_that_end_soon_are_renewed_and_the_control_plane_starts_again(members: Members) -> None:
    """As in eleven months: the role of this one run counts a year as soon."""
    before = members.sh("cp-1", "pgrep --exact kube-apiserver").split()
    days = {"_kubernetes_certificates": {**CERTIFICATES, "days": 366}}
    renewed = playbook.run(members.nodes["cp-1"], "member", {**members.variables["cp-1"], **days}, {})
    assert (renewed.rc, renewed.changed) == (0, ["Renew the certificates of the control plane"]), renewed.message
    assert members.sh("cp-1", "pgrep --exact kube-apiserver").split() not in ([], before)
    again = members.again("cp-1")
    assert (again.rc, again.changed) == (0, []), again.message


def test_a_second_stack_deploys_the_model_there_and_its_pod_passes_all_probes(
    members: Members, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From bare machines to a pod that sees: the steps of docs/kubernetes.md, whose image is the lab's serving image."""
    road = ClusterRoad(tmp_path_factory.mktemp("models") / "glm-fleet", "lab-own-cluster")
    expect_success(road.run("bootstrap/stack.sh", road.stack))
    (road.home / "lab-ca.pem").write_text(members.site["docker_registry_certificates"][site.REGISTRY])
    with members.login() as file:
        settings = {
            "context": CONTEXT,
            "kubeconfig": file,
            "image": members.site["transformers_base_image"],
            "render_group": members.sh("gpu-1", "stat -c %g /dev/dri/renderD128").strip(),
            "models.glm.replicas": "1",
        }
        for key, value in settings.items():
            road.set(f"kubernetes.{key}", value)
        print(expect_success(road.fleet("plan")))
        expect_success(road.up())
        table = expect_success(road.fleet("show"))
        ((node, passed, total),) = re.findall(r"(?m)^glm +glm-\S+ +(\S+) +ready +[0-9a-f]{12} +(\d+)/(\d+) ", table)
        assert (node, passed) == ("gpu-1", total) and int(total) >= 12, table
        expect_success(road.up("--expect-no-changes"))


def test_a_member_that_is_taken_out_leaves_nothing_of_the_role(members: Members) -> None:
    """The last one of this file: one member is left."""
    with ssh.connect(members.nodes["cp-1"]) as connection:
        membership.take_out(connection, "gpu-1")
    assert members.sh("cp-1", f"kubectl --kubeconfig={membership.ADMIN} get nodes --output=name").split() == [
        "node/cp-1"
    ]
    request = teardown.request("member", {"managed": {"declared": DECLARED}}, ())
    for _ in range(2):  # the second one finds nothing, and is content
        run = playbook.run(members.nodes["gpu-1"], "teardown", {"managed": request}, {})
        assert run.rc == 0, run.message
    installed = members.sh("gpu-1", "dpkg-query --show --showformat='${db:Status-Abbrev}${Package}\\n'")
    assert not {f"ii {name}" for name in (*PROGRAMS, "kubernetes-cni", "containerd")} & set(installed.splitlines())
    folders = "/etc/kubernetes /var/lib/kubelet /var/lib/etcd /var/lib/containerd"
    # In the lab each but the first is a mounted file system, which stays, empty.
    assert members.sh("gpu-1", f"find {folders} -mindepth 1 2>/dev/null || true") == ""
    assert members.sh("gpu-1", "ls -d /etc/kubernetes 2>/dev/null || true") == ""
    assert members.sh("gpu-1", "pgrep --exact 'kubelet|containerd' || true") == ""
