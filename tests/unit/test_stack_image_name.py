"""The controller's name of a serving image is the one that the role transformers computes on the node."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.stack import image_name, role_vars

ROLES = Path(__file__).resolve().parents[2] / "roles"
VALUES = {
    "transformers_base_image": "registry.example/vllm@sha256:" + "ab" * 32,
    "transformers_base_vllm": "0.32.0",
    "transformers_commit": "cd" * 20,
    "transformers_registry": "registry.example:5000/glm/serving",
}


def by_the_role(folder: Path, values: dict[str, Any]) -> str:
    """Return the name that the role's own variables give."""
    (folder / "files").symlink_to(ROLES / "transformers" / "files")
    vars_files = [str(ROLES / "transformers" / part / "main.yml") for part in ("defaults", "vars")]
    tasks = [
        {"ansible.builtin.set_fact": {"__transformers_recipe": "{{ _transformers_recipe }}"}},
        {"ansible.builtin.copy": {"content": "{{ _transformers_tag }}", "dest": str(folder / "name"), "mode": "0600"}},
    ]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "connection": "local",
        "vars_files": vars_files,
        "tasks": tasks,
    }
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    (folder / "values.json").write_text(json.dumps(values))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-e",
        f"@{folder}/values.json",
        f"{folder}/play.yml",
    ]
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false", "LC_ALL": "C.UTF-8"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return (folder / "name").read_text()


@pytest.mark.parametrize(
    "more", [{}, {"transformers_imports": ["vllm", "aiter"], "transformers_pip_args": "--no-index"}]
)
def test_the_name_is_the_role_s(tmp_path: Path, more: dict[str, Any]) -> None:
    values = {**VALUES, **more}
    defaults = role_vars.load(ROLES).defaults
    assert image_name.of({**defaults, **values}, ROLES) == by_the_role(tmp_path, values)


def test_without_a_registry_there_is_no_name() -> None:
    defaults = role_vars.load(ROLES).defaults
    assert image_name.of({**defaults, **VALUES, "transformers_registry": ""}, ROLES) == ""
