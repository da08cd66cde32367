"""Claims about a cluster of the lab, without a container: the files of its machines, its kubeconfig, its order, its end."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import errors
from fleet.provider import base
from lab import commands, machine, network, site
from lab.images import kubernetes as image
from lab.kubernetes import build, cluster, crds, machine_files, pause_image
from lab.kubernetes.machine_files import Node
from lab.provider import resources

ADDRESSES = {"control-plane": "10.77.0.10", "glm-1": "10.77.0.11", "glm-2": "10.77.0.12"}
NODES = [Node("glm-1", ADDRESSES["glm-1"], 1), Node("glm-2", ADDRESSES["glm-2"], 2)]
NETWORK = network.Network("lab", "10.77.0.0/24")
SUPPLIED = {
    "docker_registry_certificates": {site.REGISTRY: "AUTHORITY\n"},
    "transformers_base_image": f"{site.REGISTRY}/lab/vllm@sha256:{'ab' * 32}",
}


class Machines:
    """Stands in for Docker, kubectl and the site: records what is asked of them, with the files that each container gets."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.files: dict[str, dict[str, str]] = {}
        self.mounts: dict[str, Mapping[Path, str]] = {}

    def make(self, lab: str, name: str, tag: str, gpus: int, folder: Path, *more: Any) -> tuple[str, str]:
        self.events.append(f"make {name} with {gpus} GPUs")
        self.mounts[name] = more[1]
        return f"{lab}-{name}", ADDRESSES[name]

    def docker(self, *words: str, stdin: bytes = b"") -> str:
        if words[0] == "cp":
            name = words[2].removeprefix("lab-").partition(":")[0]
            with tarfile.open(fileobj=io.BytesIO(stdin)) as tar:
                plain = [entry for entry in tar if entry.isfile()]
                self.files[name] = {entry.name: _text(tar, entry) for entry in plain}
        else:
            self.events.append(" ".join(words))
        return ""

    def run(self, *words: str, stdin: bytes | None = None, timeout: float = 0) -> str:
        self.events.append(f"kubectl {' '.join(words[4:])}" if words[1] == "kubectl" else "await the API server")
        return ""


def _text(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    file = tar.extractfile(entry)
    assert file
    return file.read().decode("utf-8", "replace")


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    """Stand-ins for everything that a cluster needs."""
    program = tmp_path / "programs" / "pause"
    program.parent.mkdir()
    program.write_bytes(b"a program")
    double = Machines()
    monkeypatch.setattr(build, "ensure", lambda *parts: double.events.append(f"build {' '.join(parts)}"))
    monkeypatch.setattr(build, "binary", lambda part: program.with_name(part))
    monkeypatch.setattr(crds, "definitions", list)
    monkeypatch.setattr(site, "create", lambda lab, systems, folder: {"vars": SUPPLIED})
    monkeypatch.setattr(network, "find", lambda lab: NETWORK)
    monkeypatch.setattr(network, "free_address", lambda net, folder, owner: ADDRESSES[owner])
    monkeypatch.setattr(machine, "make", double.make)
    monkeypatch.setattr(cluster, "docker", double.docker)
    monkeypatch.setattr(cluster, "run", double.run)
    return double


def create(folder: Path) -> dict[str, Any]:
    return cluster.create("lab", {"glm-1": 8, "glm-2": 0}, folder)


def test_a_cluster_starts_its_control_plane_before_its_nodes(machines: Machines, tmp_path: Path) -> None:
    create(tmp_path)
    events = [event for event in machines.events if " label " not in event]
    context = "--context=glm-fleet-lab"
    wait = f"kubectl {context} wait"
    assert events == [
        "build cp node pause",
        "make control-plane with 0 GPUs",
        "start lab-control-plane",
        "await the API server",
        f"kubectl {context} apply --server-side --filename=-",
        "make glm-1 with 8 GPUs",
        "start lab-glm-1",
        "make glm-2 with 0 GPUs",
        "start lab-glm-2",
        f"{wait} --for=create --timeout=300s node/glm-1",
        f"{wait} --for=condition=Ready --timeout=300s node/glm-1",
        f"{wait} --for=jsonpath={{.status.allocatable.amd\\.com/gpu}}=8 --timeout=300s node/glm-1",
        f"{wait} --for=create --timeout=300s node/glm-2",
        f"{wait} --for=condition=Ready --timeout=300s node/glm-2",
    ]


def test_only_a_node_with_gpus_has_the_labels_of_amd(machines: Machines, tmp_path: Path) -> None:
    create(tmp_path)
    (labels,) = [event for event in machines.events if " label " in event]
    assert " node/glm-1 " in labels and "amd.com/gpu.product-name=AMD_Instinct_MI300X_OAM" in labels


def test_the_kubeconfig_has_one_context_which_is_not_the_current_one(machines: Machines, tmp_path: Path) -> None:
    outputs = create(tmp_path)
    file = Path(outputs["kubeconfig"])
    config = json.loads(file.read_text())
    assert [each["name"] for each in config["contexts"]] == ["glm-fleet-lab"] == [outputs["context"]]
    assert config["current-context"] == "" and file.stat().st_mode & 0o777 == 0o600
    assert config["clusters"][0]["cluster"]["server"] == "https://10.77.0.10:6443"


def test_the_outputs_name_the_image_by_digest_and_the_authority_of_the_site(machines: Machines, tmp_path: Path) -> None:
    outputs = create(tmp_path)
    assert outputs["image"].startswith("registry.lab.internal:5000/lab/vllm@sha256:")
    assert Path(outputs["authority"]).read_text() == "AUTHORITY\n"


def test_a_node_has_its_own_token_and_no_key_of_the_cluster(machines: Machines, tmp_path: Path) -> None:
    create(tmp_path)
    keys = {
        line.split(",")[1]: line.split(",")[0] for line in (tmp_path / "keys" / "tokens.csv").read_text().splitlines()
    }
    for name in ("glm-1", "glm-2"):
        texts = "".join(machines.files[name].values())
        assert {user for user, token in keys.items() if token in texts} == {f"system:node:{name}", "system:kube-proxy"}
        assert "PRIVATE KEY" not in texts
        assert machines.mounts[name] == {build.binary("node").parent: "/opt/kubernetes"}


def test_every_file_that_a_unit_names_is_on_its_machine(machines: Machines, tmp_path: Path) -> None:
    create(tmp_path)
    for files in machines.files.values():
        units = [text for name, text in files.items() if name.endswith(".service")]
        options = [word for text in units for word in text.split() if "etc/kubernetes/" in word]
        assert options and {word.partition("=")[2] or word for word in options} <= {f"/{name}" for name in files}


def test_containerd_trusts_the_registry_by_the_authority_of_the_site() -> None:
    files = machine_files.registry_files("registry.lab.internal:5000", "AUTHORITY\n")
    folder = "etc/containerd/certs.d/registry.lab.internal:5000"
    assert files[f"{folder}/ca.crt"] == "AUTHORITY\n"
    assert f'ca = "/{folder}/ca.crt"' in files[f"{folder}/hosts.toml"]


def test_the_pods_of_two_nodes_have_different_addresses_and_find_each_other() -> None:
    first, second = (machine_files.node_files(node, [other], "10.77.0.2") for node, other in (NODES, NODES[::-1]))
    subnets = [
        json.loads(files["etc/cni/net.d/10-lab.conflist"])["plugins"][0]["ipam"]["ranges"][0][0]["subnet"]
        for files in (first, second)
    ]
    assert subnets == ["10.244.1.0/24", "10.244.2.0/24"]
    assert first["etc/kubernetes/routes"] == "route replace 10.244.2.0/24 via 10.77.0.12\n"
    assert second["etc/kubernetes/routes"] == "route replace 10.244.1.0/24 via 10.77.0.11\n"


def test_the_units_of_a_machine_start_at_boot_and_only_root_reads_its_files() -> None:
    files: dict[str, str | bytes] = {"etc/systemd/system/kubelet.service": "[Unit]\n", "etc/kubernetes/ca.crt": b"-"}
    with tarfile.open(fileobj=io.BytesIO(machine_files.archive(files))) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["etc/systemd/system/multi-user.target.wants/kubelet.service"].linkname == "../kubelet.service"
    assert entries["etc/kubernetes/ca.crt"].mode == 0o600
    assert not [name for name, entry in entries.items() if entry.isdir()], "a folder of the image would get its mode"


def test_containerd_finds_the_pause_image_by_the_name_that_its_archive_has() -> None:
    settings = (image.FILES / "containerd.toml").read_text()
    assert f'sandbox = "{pause_image.NAME}"' in settings
    with tarfile.open(fileobj=io.BytesIO(pause_image.archive(b"a program"))) as tar:
        index = json.loads(_text(tar, tar.getmember("index.json")))
        (descriptor,) = index["manifests"]
        manifest = json.loads(_text(tar, tar.getmember(f"blobs/{descriptor['digest'].replace(':', '/')}")))
        names = set(tar.getnames())
    assert descriptor["annotations"]["io.containerd.image.name"] == pause_image.NAME
    assert {f"blobs/{each['digest'].replace(':', '/')}" for each in (manifest["config"], *manifest["layers"])} <= names


def test_the_node_of_a_cluster_is_the_lab_s_node_with_more() -> None:
    recipe, own = image.recipe(), {file.name for file in image.FILES.iterdir() if file.is_file()}
    assert {"containerd", "openssh-server"} <= set(recipe.packages)
    assert {"lab-init", "lab-kernel", "containerd.toml"} <= {file.name for file in recipe.files}
    assert own - {file.name for file in recipe.files} == {"__init__.py", "setup.sh"}
    assert f"RENDER_GROUP={image.RENDER_GROUP}\n" in recipe.setup


@pytest.mark.parametrize(
    ("inputs", "mistakes"),
    [
        ({"name": "lab", "gpus": {"glm-1": 8}}, {}),
        ({"name": "", "gpus": {"glm-1": 8}}, {"name": "is required"}),
        ({"name": "lab", "gpus": {}}, {"gpus": "has no node"}),
        ({"name": "lab", "gpus": {"control-plane": 8}}, {"gpus": "control-plane is the lab's own name"}),
    ],
)
def test_a_cluster_needs_a_name_and_nodes(inputs: dict[str, Any], mistakes: dict[str, str]) -> None:
    assert resources.Cluster().check(inputs) == mistakes


def test_a_cluster_that_failed_is_in_the_state_so_that_destroy_removes_it(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise commands.LabError("kubectl wait: ended with 1: timed out\n  next:   read it")

    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    monkeypatch.setattr(cluster, "kubectl", fail)
    request: Any = type("Request", (), {"name": "lab", "report": lambda *_: None})()
    with pytest.raises(base.InitFailed) as caught:
        resources.Cluster().apply(request, {"name": "lab", "gpus": {"glm-1": 8.0}}, None)
    assert caught.value.properties["name"] == "lab" and isinstance(caught.value.error, errors.FleetError)
    assert set(caught.value.properties) == {"name", "gpus", *resources.Cluster.computed}


def test_the_project_of_the_cluster_exports_what_the_resource_has() -> None:
    project = Path(cluster.__file__).parent / "project"
    program = (project / "__main__.py").read_text()
    assert all(f'"{name}"' in program for name in resources.Cluster.computed)
    (plugin,) = yaml.safe_load((project / "Pulumi.yaml").read_text())["plugins"]["providers"]
    assert (project / plugin["path"] / f"pulumi-resource-{plugin['name']}").exists()
