"""The defaults, argument specs and files of the roles. Reads roles/ only; their effects: test_roles_effects.py."""

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fleet.stack import resource_roles

ROLES = pathlib.Path(__file__).parents[2] / "roles"
# Files with a secret that a role removes in the same run.
TEMPORARY = ("{{ _weights_fetch_dir }}/{{ item.name }}", "{{ _weights_token_file }}", "{{ _kubernetes_join_file }}")
PUBLIC = ("host", "docker", "rocm", "transformers", "weights", "vllm", "gateway", "kubernetes")
# Python type of a default, by the type that the argument spec promises.
TYPES = {"str": str, "path": str, "int": int, "bool": bool, "list": list, "dict": dict}


def read(role: str, file: str) -> Any:
    return yaml.safe_load((ROLES / role / file).read_text())


def files(role: str) -> list[pathlib.Path]:
    """Return every file of a role, without the bytecode of those that a test imports."""
    return [path for path in (ROLES / role).rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def options(role: str) -> dict[str, Any]:
    return read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]


@pytest.mark.parametrize("role", PUBLIC)
def test_every_default_has_a_spec_and_every_spec_a_default(role: str) -> None:
    defaults, specs = set(read(role, "defaults/main.yml")), set(options(role))
    assert defaults - specs == set(), f"describe it in roles/{role}/meta/argument_specs.yml: type, description"
    assert specs - defaults == set(), f"give it a default in roles/{role}/defaults/main.yml"


@pytest.mark.parametrize("role", PUBLIC)
def test_no_spec_repeats_a_default(role: str) -> None:
    twice = [name for name, spec in options(role).items() if "default" in spec]
    assert twice == [], f"the default is in roles/{role}/defaults/main.yml: remove it from meta/argument_specs.yml"


@pytest.mark.parametrize("role", PUBLIC)
def test_every_default_has_the_type_of_its_spec(role: str) -> None:
    types = {name: type(value) for name, value in read(role, "defaults/main.yml").items()}
    expected = {name: TYPES[spec["type"]] for name, spec in options(role).items()}
    assert types == expected, f"correct the type in roles/{role}/meta/argument_specs.yml, or the default"


@pytest.mark.parametrize("role", PUBLIC)
def test_every_variable_begins_with_the_name_of_its_role(role: str) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role}_")] == [], f"name it {role}_SOMETHING"


@pytest.mark.parametrize("role", PUBLIC)
def test_every_variable_is_used(role: str) -> None:
    text = "".join(
        path.read_text()
        for folder in ("tasks", "templates", "vars", "handlers", "defaults")
        for path in (ROLES / role / folder).glob("*")
    )
    unused = [name for name in options(role) if text.count(name) < 2]
    assert unused == [], f"use it in tasks/, templates/ or vars/ of roles/{role}, or remove it"


def steps(tasks: Any) -> Iterator[dict[str, Any]]:
    """Yield each task, those of blocks too."""
    for task in tasks or ():
        yield task
        for part in ("block", "rescue", "always"):
            yield from steps(task.get(part))


@pytest.mark.parametrize("role", PUBLIC)
def test_a_file_with_a_secret_is_managed_though_its_content_is_hidden(role: str) -> None:
    for path in sorted((ROLES / role / "tasks").glob("*.yml")):
        whole = list(steps(yaml.safe_load(path.read_text())))
        for task, after in zip(whole, [*whole[1:], {}], strict=True):
            copied = task.get("ansible.builtin.copy") or {}
            if not task.get("no_log") or not copied or copied["dest"] in TEMPORARY:
                continue
            what = f"{path.relative_to(ROLES)}, {task['name']}"
            missing = f"{what}: name its files by a task ansible.builtin.file after it, without no_log (fleet/ansible/declarations.py)"
            assert "path" in after.get("ansible.builtin.file", {}) and not after.get("no_log"), missing


@pytest.mark.parametrize("role", PUBLIC)
def test_tasks_main_is_a_table_of_contents(role: str) -> None:
    tasks = read(role, "tasks/main.yml")
    assert {key for task in tasks for key in task} == {"name", "ansible.builtin.import_tasks"}, (
        f"move the task to another file of roles/{role}/tasks, and import that"
    )
    assert tasks[0]["ansible.builtin.import_tasks"] == "preflight.yml", "nothing changes before preflight.yml"


@pytest.mark.parametrize("role", resource_roles.ROLES["host"])
def test_the_baseline_has_each_file_that_a_role_of_the_host_writes(role: str) -> None:
    """But not those for a named disk, which is empty before."""
    baseline = (ROLES.parent / "playbooks" / "tasks" / "baseline.yml").read_text()
    paths = [
        str(step[module]["dest"])
        for file in (ROLES / role / "tasks").glob("*.yml")
        if file.name != "filesystems.yml"
        for step in steps(yaml.safe_load(file.read_text()))
        for module in ("ansible.builtin.template", "ansible.builtin.copy")
        if module in step
    ]
    missing = [path for path in paths if path.removeprefix("{{ ").partition(" }}")[0] not in baseline]
    assert missing == [], (
        "add the path to _baseline_written in playbooks/tasks/baseline.yml, so that a teardown restores it"
    )


@pytest.mark.parametrize("role", [*PUBLIC, "long_task"])
def test_no_message_has_a_backslash_at_the_end_of_a_line(role: str) -> None:
    """YAML and Jinja keep it there: the user would read it."""
    for file in (ROLES / role / "tasks").glob("*.yml"):
        assert not [line for line in file.read_text().splitlines() if line.endswith("\\")], file


@pytest.mark.parametrize("role", [*PUBLIC, "long_task"])
def test_no_role_knows_the_lab(role: str) -> None:
    naming = [path for path in files(role) if "lab." in path.read_text().lower()]
    assert naming == [], "a role knows no lab: the lab's site sets its variables (lab/provider)"


def test_the_role_vllm_sets_no_development_mode_and_trusts_no_remote_code() -> None:
    """VLLM_SERVER_DEV_MODE opens management routes; --trust-remote-code is the precondition of a remote execution."""
    text = "".join(
        path.read_text() for path in (ROLES / "vllm").rglob("*.[jpy]*") if path.is_file() and path.suffix != ".pyc"
    )
    assert "DEV_MODE" not in text and "trust-remote-code" not in text
