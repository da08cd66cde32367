"""The files of a role are rendered on the controller as Ansible renders them on a host, and nothing of a stack file is evaluated."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.impact import role_files
from fleet.impact.role_files import FileChange

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "roles"
PROD: dict[str, Any] = yaml.safe_load((ROOT / "stacks" / "Pulumi.prod.yaml").read_text())["config"]["glm-fleet:vars"]
IMAGE = {"vllm_image": f"registry.example/glm@sha256:{'ab' * 32}", "vllm_model_dir": "/srv/models/glm"}
LATER = "a value that the preview does not know"
CONFIG, ENVIRONMENT = "/etc/fleet/vllm/config.yaml", "/etc/fleet/vllm/environment"
UNIT = "/etc/systemd/system/glm-0.service"
GATEWAY = {
    "gateway_faces": ["node", "clients"],
    "gateway_name": "prod-1",
    "gateway_address": "192.0.2.1",
    "gateway_nodes": [{"name": "prod-1", "address": "192.0.2.1", "certificate": "prod-1"}],
    "gateway_peers": [],
    "gateway_names": ["glm.example.com"],
    "gateway_clients": {},
    "gateway_replicas": [{"name": "glm-0", "socket": "/run/fleet/glm-0/sock"}],
}


OTHER = {"name": "prod-2", "address": "192.0.2.2", "certificate": "prod-2"}


def changes(role: str, old: dict[str, Any], new: dict[str, Any]) -> list[FileChange]:
    """Return the changed files of one role between the variables of prod and others."""
    own = {**(GATEWAY if role == "gateway" else {**PROD, **IMAGE})}
    before, after = ({**own, **side} for side in (old, new))
    return role_files.changes([role], before, after, ROLES, LATER)


def flags(**more: Any) -> dict[str, Any]:
    return {"vllm_flags": {**PROD["vllm_flags"], **{name.replace("_", "-"): value for name, value in more.items()}}}


def test_a_flag_changes_one_line_of_the_configuration() -> None:
    lines = ("-max-model-len: 65536", "+max-model-len: 32768")
    assert changes("vllm", {}, flags(max_model_len=32768)) == [FileChange(CONFIG, lines, whole=True)]


def test_a_file_in_which_the_host_decides_something_is_said_to_be_in_part() -> None:
    found = {change.path: change for change in changes("vllm", {}, {"vllm_shm_size": "64g"})}
    assert found[UNIT] == FileChange(UNIT, ("-  --shm-size=32g \\", "+  --shm-size=64g \\"), whole=False)


def test_what_another_resource_determines_is_known_later() -> None:
    found = {change.path: change for change in changes("vllm", {}, {"vllm_image": LATER})}
    assert "+  --entrypoint=/bin/sh (known later) /etc/vllm-start.sh \\" in found[UNIT].lines
    mount = "+  --mount=type=bind,source=/var/cache/vllm/(known later)/glm-0,target=/var/cache/vllm \\"
    assert mount in found[UNIT].lines
    assert not found[UNIT].whole


@pytest.mark.parametrize(
    ("role", "new", "path", "line"),
    [
        ("rocm", {"rocm_driver_release": "30.30.4"}, "/etc/apt/sources.list.d/rocm.sources", "/amdgpu/30.30.4/ubuntu"),
        ("host", {"host_kernel_arguments": ["amd_iommu=on"]}, "/etc/default/grub.d/90-fleet.cfg", "amd_iommu=on"),
        ("gateway", {"gateway_nodes": [OTHER]}, "/etc/fleet/gateway/haproxy.cfg", "192.0.2.2:8443"),
    ],
)  # fmt: skip
def test_files_of_other_roles_are_rendered(role: str, new: dict[str, Any], path: str, line: str) -> None:
    found = {change.path: change.lines for change in changes(role, {}, new)}
    assert any(entry.startswith("+") and line in entry for entry in found[path]), found


def test_an_expression_of_a_stack_file_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = changes("vllm", {}, flags(served_model_name="{{ lookup('pipe', 'touch x') }}"))
    assert found[0].lines[-1] == "+served-model-name: '{{ lookup(''pipe'', ''touch x'') }}'"
    assert not [*tmp_path.iterdir()]


def test_no_secret_is_in_a_changed_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "of-the-controller")
    secrets = {
        "vllm_environment": {
            **PROD["vllm_environment"],
            "HF_TOKEN": "hf_0123",
            "WEIGHTS": "https://user:word@mirror.example/glm",
        }
    }
    found = {change.path: change.lines for change in changes("vllm", {}, {**secrets, **flags(api_key="sk-0123")})}
    assert found[ENVIRONMENT] == ("+HF_TOKEN=(masked)", "+WEIGHTS=https://(masked)@mirror.example/glm")
    assert found[CONFIG] == ("+api-key: (masked)",)


def test_a_number_of_tokens_is_no_secret() -> None:
    assert changes("vllm", {}, flags(max_num_batched_tokens=8192))[0].lines == ("+max-num-batched-tokens: 8192",)


def test_a_task_with_a_secret_is_not_rendered() -> None:
    paths = role_files.files(ROLES, "vllm", {**PROD, **IMAGE})
    assert CONFIG in paths
    assert "/etc/fleet/vllm/key.env" not in paths


def test_ansible_renders_the_same_files(tmp_path: Path) -> None:
    """Every file that is known as a whole."""
    ours = {path: text for path, (text, whole) in role_files.files(ROLES, "vllm", {**PROD, **IMAGE}).items() if whole}
    templates = {
        CONFIG: "config.yaml.j2",
        ENVIRONMENT: "environment.j2",
        "/usr/local/lib/fleet/wait-healthy": "wait-healthy.j2",
        "/etc/fleet/vllm/start.sh": "start.sh.j2",
        "/etc/fleet/vllm/prepare.py": "prepare.py.j2",
    }
    assert ours.keys() == templates.keys()
    role = ROLES / "vllm"
    tasks = [
        {"template": {"src": str(role / "templates" / name), "dest": str(tmp_path / name)}}
        for name in templates.values()
    ]
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(role / "defaults" / "main.yml"), str(role / "vars" / "main.yml")],
        "tasks": tasks,
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    (tmp_path / "vars.json").write_text(json.dumps({**PROD, **IMAGE}))
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", "localhost,", "-e", f"@{tmp_path / 'vars.json'}", str(tmp_path / "play.yml")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for path, name in templates.items():
        assert ours[path] == (tmp_path / name).read_text().replace("Ansible managed", "Managed"), path
