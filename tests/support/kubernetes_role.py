"""What the role kubernetes renders, for the first control plane, for one that joins, for a worker with GPUs: one run of ansible-playbook.

Called by the tests of the role's files, and by the one that shows its objects to a real API server.
"""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import yaml

ROLE = pathlib.Path(__file__).parents[2] / "roles" / "kubernetes"
DIGEST = f"@sha256:{'ab' * 32}"
NETWORK = f"registry.example.com:5000/kube-router{DIGEST}"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
SEEN = {
    "member": "",
    "begun": False,
    "upgrading": False,
    "runtime": "2.2.1-0ubuntu1",
    "stale": [],
    "installed": {},
    "missing": [],
}
COMMON = {
    "kubernetes_endpoint": "api.example.com:6443",
    "kubernetes_registry_certificates": {"registry.example.com:5000": CERTIFICATE},
    "kubernetes_network_image": NETWORK,
    "kubernetes_device_plugin_image": f"registry.example.com:5000/amd/device-plugin{DIGEST}",
    "kubernetes_labeller_image": f"registry.example.com:5000/amd/labeller{DIGEST}",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "first": {
        **{"kubernetes_part": "first", "kubernetes_name": "cp-1", "kubernetes_address": "10.0.0.1"},
        "kubernetes_network_arguments": ["--overlay-encap=fou"],
    },
    "second": {
        **{"kubernetes_part": "control-plane", "kubernetes_name": "cp-2", "kubernetes_address": "10.0.0.2"},
        **{"kubernetes_gpus": 8, "kubernetes_authority": CERTIFICATE, "kubernetes_network_sha256": "cd" * 32},
        "kubernetes_network_manifest": "https://example.com/calico.yaml",
        "kubernetes_network_images": {"quay.io/calico/node:v3.32.2": f"registry.example.com:5000/calico/node{DIGEST}"},
    },
    "worker": {
        **{"kubernetes_part": "worker", "kubernetes_name": "gpu-1", "kubernetes_address": "10.0.0.9", "kubernetes_gpus": 8},
        **{"kubernetes_authority": CERTIFICATE, "kubernetes_kubelet_options": {"systemReserved": {"cpu": "8"}}},
    },
}  # fmt: skip
Rendered = dict[str, dict[str, Any]]


def render(folder: pathlib.Path) -> Rendered:
    """Return what the role makes of each variant: variables by their names, and templates by theirs."""
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    names = (
        "init",
        "join",
        "discovery",
        "kubelet",
        "kubelet_arguments",
        "waits",
        "packages",
        "query",
        "kind",
        "network_objects",
    )
    values = {
        **{name: f"{{{{ _kubernetes_{name} }}}}" for name in names},
        **{
            file: f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/{file}.j2') }}}}"
            for file in ("containerd.toml", "devices.yaml", "network.yaml", "kubernetes.sources")
        },
    }
    common = {
        **{"ansible_managed": "x", "ansible_python_interpreter": sys.executable, "role_path": str(ROLE)},
        "__kubernetes_read": {"stdout": json.dumps(SEEN)},
        **{"__kubernetes_runtime_config": {"changed": False}, "__kubernetes_kubelet": {"results": []}},
    }
    plays = [
        {
            **{"hosts": "localhost", "connection": "local", "gather_facts": False},
            "vars_files": [str(ROLE / "vars/main.yml")],
            "vars": {**defaults, **common, **COMMON, **own},
            "tasks": [{"ansible.builtin.debug": {"msg": "{{ values }}"}, "vars": {"values": values}}],
        }
        for own in VARIANTS.values()
    ]
    (folder / "all.yml").write_text(yaml.safe_dump(plays))
    command = [f"{pathlib.Path(sys.executable).parent}/ansible-playbook", "-i", "localhost,", str(folder / "all.yml")]
    secrets = {"KUBERNETES_JOIN_TOKEN": "abcdef.0123456789abcdef", "KUBERNETES_CERTIFICATE_KEY": "5f" * 32}
    env = {**os.environ, **secrets, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert process.returncode == 0, process.stdout + process.stderr
    results = [play["tasks"][0]["hosts"]["localhost"]["msg"] for play in json.loads(process.stdout)["plays"]]
    return dict(zip(VARIANTS, results, strict=True))
