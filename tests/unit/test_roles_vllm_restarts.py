"""Which replicas a run of the role vllm restarts: by what has changed, or those that the provider names. One run of ansible-playbook for all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).parents[2] / "roles" / "vllm"
NAMES = ["glm-0", "glm-1", "glm-2"]
UNCHANGED = {"changed": False, "results": []}
# What the run has found: changed files, changed units, replicas that run, and the names that the provider gives; the restarts.
CASES: dict[str, tuple[bool, list[str], list[str], dict[str, Any], list[str]]] = {
    "nothing": (False, [], NAMES, {}, []),
    "a file of all": (True, [], NAMES, {}, NAMES),
    "a unit": (False, ["glm-1"], NAMES, {}, ["glm-1"]),
    "a stopped replica": (False, [], ["glm-0", "glm-2"], {}, ["glm-1"]),
    "a file of all, for one replica": (True, [], NAMES, {"fleet_restarts": ["glm-1"]}, ["glm-1"]),
    "a replica after the one that wrote the files": (False, [], NAMES, {"fleet_restarts": ["glm-2"]}, ["glm-2"]),
    "another's unit": (False, ["glm-0"], NAMES, {"fleet_restarts": ["glm-1"]}, ["glm-1"]),
    "a name that the node does not have": (False, [], NAMES, {"fleet_restarts": ["docker"]}, []),
}


@pytest.fixture(scope="module")
def restarts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    plays = []
    for files, units, running, more, _ in CASES.values():
        values = {
            **yaml.safe_load((ROLE / "defaults/main.yml").read_text()),
            "vllm_replicas": [{"name": name} for name in NAMES],
            "__vllm_read": {"stdout": json.dumps({"active": running, "starting": [], "units": NAMES})},
            "__vllm_files": {**UNCHANGED, "changed": files},
            "__vllm_key_written": UNCHANGED,
            "__vllm_units": {"results": [{"changed": name in units, "item": {"name": name}} for name in NAMES]},
            "ansible_python_interpreter": sys.executable,
            **more,
        }
        task = {"ansible.builtin.debug": {"msg": "{{ _vllm_restarts }}"}}
        head = {"hosts": "localhost", "connection": "local", "gather_facts": False}
        plays.append({**head, "vars_files": [str(ROLE / "vars/main.yml")], "vars": values, "tasks": [task]})
    folder = tmp_path_factory.mktemp("plays")
    (folder / "all.yml").write_text(yaml.safe_dump(plays))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", folder / "all.yml"]
    env = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert process.returncode == 0, process.stdout + process.stderr
    results = [play["tasks"][0]["hosts"]["localhost"]["msg"] for play in json.loads(process.stdout)["plays"]]
    return dict(zip(CASES, results, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_run_restarts_what_changed_or_what_the_provider_names(restarts: dict[str, list[str]], case: str) -> None:
    assert restarts[case] == CASES[case][-1]
