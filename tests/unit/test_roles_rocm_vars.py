"""The values that the role rocm computes from its variables and what it read: the driver's version, the source's key, the time for a boot.

Ansible itself fills the templates, once for all claims, on this machine and without changing it.
"""

import functools
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import pytest
import yaml

ROLE = pathlib.Path(__file__).parents[2] / "roles" / "rocm"
READ = {
    "system": "ubuntu-24.04", "kernel": "6.8.0-87-generic", "loader": "", "headers": ["linux-headers-6.8.0-87-generic"],
    "repositories": [], "driver_installed": {}, "pci": [], "fingerprint": "", "blacklisted": [],
}  # fmt: skip
TOOLS = "https://repo.radeon.com/rocm/apt/7.2.4"
LIST = {"file": "/etc/apt/sources.list.d/rocm.list", "url": TOOLS, "suite": "noble", "key": "/k.gpg", "same": True}
NEWER = {"amdgpu-dkms": {"version": "1:6.19.14.31400000-1", "release": "31.40.0"}}
# Each claim: role variables, what was read, the expression, and its value.
CLAIMS: dict[str, tuple[dict[str, Any], dict[str, Any], str, Any]] = {
    "the driver is of the stack's release": ({}, {}, "_rocm_driver", ["amdgpu-dkms=*.30300400-*[0-9a-z]"]),
    "or of another release": ({"rocm_driver_release": "31.40"}, {}, "_rocm_driver", ["amdgpu-dkms=*.31400000-*[0-9a-z]"]),
    "a version counts more than a release": ({"rocm_driver_version": "1:6*"}, {}, "_rocm_driver", ["amdgpu-dkms=1:6*"]),
    "a version counts for every package": (
        {"rocm_driver_version": "1:6*", "rocm_driver_packages": ["own", "two"]}, {}, "_rocm_driver", ["own=1:6*", "two=1:6*"],
    ),
    "a package of somebody else has no release": ({"rocm_driver_packages": ["own"]}, {}, "_rocm_driver", ["own"]),
    "a release without numbers pins nothing": ({"rocm_driver_release": "latest"}, {}, "_rocm_driver", ["amdgpu-dkms"]),
    "a later driver is reported": ({}, {"driver_installed": NEWER}, "_rocm_newer | map(attribute='key')", ["amdgpu-dkms"]),
    "but not one that is adopted": ({"rocm_driver_adopt": True}, {"driver_installed": NEWER}, "_rocm_newer", []),
    "another source's key file is used": ({}, {"repositories": [LIST]}, "_rocm_keys", {TOOLS: "/k.gpg"}),
    "but not one of another suite": ({}, {"repositories": [{**LIST, "suite": "jammy"}]}, "_rocm_keys", {}),
    "a boot takes 300 s": ({}, {}, "_rocm_boot_timeout", 300),
    "or what a vendor's unit needs": ({}, {"loader": "rocmstartup.service"}, "_rocm_boot_timeout", 1200),
    "headers of this kernel are known": ({}, {}, "_rocm_headers_unknown", False),
    "headers of another kernel do not count": ({}, {"headers": ["linux-headers-generic"]}, "_rocm_headers_unknown", True),
}  # fmt: skip


def tasks_of(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load((ROLE / "tasks" / file).read_text()))


# Ansible fills a message before it needs it: on a machine without an error, too.
MESSAGES = {
    task["name"]: (task["ansible.builtin.assert"]["fail_msg"], task.get("vars", {}))
    for task in tasks_of("preflight.yml")
    if "ansible.builtin.assert" in task
}


@functools.cache
def values() -> dict[str, Any]:
    """Return the value of each claim's expression, and each message, by name."""

    def task(name: str, template: str, variables: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
        reader = {"__rocm_read": {"stdout": json.dumps({**READ, **read})}}
        return {"ansible.builtin.debug": {"msg": {"claim": name, "value": template}}, "vars": {**variables, **reader}}

    tasks = [task(name, f"{{{{ {claim[2]} }}}}", claim[0], claim[1]) for name, claim in CLAIMS.items()]
    tasks += [task(name, message, variables, {}) for name, (message, variables) in MESSAGES.items()]
    files = [str(ROLE / folder / "main.yml") for folder in ("defaults", "vars")]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars_files": files, "tasks": tasks}
    command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "/dev/stdin"]
    with tempfile.TemporaryDirectory() as home:
        environment = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "HOME": home, "PATH": "/usr/bin:/bin"}
        text = json.dumps([play])
        process = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, timeout=60)
    assert process.returncode == 0, process.stdout + process.stderr
    results = json.loads(process.stdout[process.stdout.index("{\n") :])["plays"][0]["tasks"]
    messages = [result["hosts"]["localhost"]["msg"] for result in results]
    return {message["claim"]: message["value"] for message in messages}


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_role_computes_the_right_value(claim: str) -> None:
    assert values()[claim] == CLAIMS[claim][3]


@pytest.mark.parametrize("name", MESSAGES)
def test_each_message_can_be_filled_where_nothing_is_wrong(name: str) -> None:
    assert "wanted:" in values()[name]


@pytest.mark.parametrize("file", ["state.yml", "wait.yml"])
def test_a_wait_for_gpus_does_not_fail_but_leaves_the_message_to_a_later_task(file: str) -> None:
    assert [task["failed_when"] for task in tasks_of(file) if "until" in task] == [False]
