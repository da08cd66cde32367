"""What the role rocm makes of its variables and of what it read: the driver's version, the source's key, how long a boot may take.

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
    **{
        "system": "ubuntu-24.04",
        "kernel": "6.8.0-87-generic",
        "loader": "",
        "headers": ["linux-headers-6.8.0-87-generic"],
    },
    **{"repositories": [], "driver_installed": {}, "pci": [], "fingerprint": "", "blacklisted": []},
}
TOOLS = "https://repo.radeon.com/rocm/apt/7.2.4"
LIST = {"file": "/etc/apt/sources.list.d/rocm.list", "url": TOOLS, "suite": "noble", "key": "/k.gpg", "same": True}
NEWER = {"amdgpu-dkms": {"version": "1:6.19.14.31400000-1", "release": "31.40.0"}}
# Each claim: role variables, what was read, the expression, and its value.
CLAIMS: dict[str, tuple[dict[str, Any], dict[str, Any], str, Any]] = {
    "the driver is of the stack's release": ({}, {}, "_rocm_driver", ["amdgpu-dkms=*.30300400-*[0-9a-z]"]),
    "of another one, too": ({"rocm_driver_release": "31.40"}, {}, "_rocm_driver", ["amdgpu-dkms=*.31400000-*[0-9a-z]"]),
    "a version counts more": ({"rocm_driver_version": "1:6*"}, {}, "_rocm_driver", ["amdgpu-dkms=1:6*"]),
    "of every package": (
        {"rocm_driver_version": "1:6*", "rocm_driver_packages": ["own", "two"]}, {}, "_rocm_driver", ["own=1:6*", "two=1:6*"],
    ),
    "a package of somebody else has no release": ({"rocm_driver_packages": ["own"]}, {}, "_rocm_driver", ["own"]),
    "a release without numbers pins nothing": ({"rocm_driver_release": "latest"}, {}, "_rocm_driver", ["amdgpu-dkms"]),
    "a later driver is told": ({}, {"driver_installed": NEWER}, "_rocm_newer | map(attribute='key')", ["amdgpu-dkms"]),
    "but one that is adopted": ({"rocm_driver_adopt": True}, {"driver_installed": NEWER}, "_rocm_newer", []),
    "another source's key file is taken": ({}, {"repositories": [LIST]}, "_rocm_keys", {TOOLS: "/k.gpg"}),
    "not of another suite": ({}, {"repositories": [{**LIST, "suite": "jammy"}]}, "_rocm_keys", {}),
    "a boot takes 300 s": ({}, {}, "_rocm_boot_timeout", 300),
    "or what a vendor's unit needs": ({}, {"loader": "rocmstartup.service"}, "_rocm_boot_timeout", 1200),
    "headers are known": ({}, {}, "_rocm_headers_unknown", False),
    "those of another kernel are none": ({}, {"headers": ["linux-headers-generic"]}, "_rocm_headers_unknown", True),
}  # fmt: skip


def tasks_of(file: str) -> list[dict[str, Any]]:
    """Return the tasks of one of the role's files."""
    return list(yaml.safe_load((ROLE / "tasks" / file).read_text()))


# Ansible fills a message before it knows whether it is needed: of a machine on which nothing is wrong, too.
MESSAGES = {
    task["name"]: (task["ansible.builtin.assert"]["fail_msg"], task.get("vars", {}))
    for task in tasks_of("preflight.yml")
    if "ansible.builtin.assert" in task
}


@functools.cache
def values() -> dict[str, Any]:
    """Return what each claim's expression is."""
    tasks = [
        {
            "ansible.builtin.debug": {"msg": {"claim": claim, "value": f"{{{{ {expression} }}}}"}},
            "vars": {**given, "__rocm_read": {"stdout": json.dumps({**READ, **read})}},
        }
        for claim, (given, read, expression, _) in CLAIMS.items()
    ]
    tasks += [
        {
            "ansible.builtin.debug": {"msg": {"claim": name, "value": message}},
            "vars": {**own, "__rocm_read": {"stdout": json.dumps(READ)}},
        }
        for name, (message, own) in MESSAGES.items()
    ]
    files = [str(ROLE / folder / "main.yml") for folder in ("defaults", "vars")]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars_files": files, "tasks": tasks}
    command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "/dev/stdin"]
    with tempfile.TemporaryDirectory() as home:
        environment = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "HOME": home, "PATH": "/usr/bin:/bin"}
        text = json.dumps([play])
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout[done.stdout.index("{\n") :])["plays"][0]["tasks"]
    said = [task["hosts"]["localhost"]["msg"] for task in results]
    return {one["claim"]: one["value"] for one in said}


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_role_makes_of_it_what_it_should(claim: str) -> None:
    assert values()[claim] == CLAIMS[claim][3]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_can_be_filled_where_nothing_is_wrong(name: str) -> None:
    assert "wanted:" in values()[name]


@pytest.mark.parametrize("file", ["state.yml", "wait.yml"])
def test_a_wait_that_ends_without_gpus_leaves_the_message_to_the_task_that_has_one(file: str) -> None:
    assert [task["failed_when"] for task in tasks_of(file) if "until" in task] == [False]
