"""The defaults, argument specs and files of the roles. Reads roles/ only; their effects: test_roles_effects.py."""

import pathlib
from typing import Any

import pytest
import yaml

ROLES = pathlib.Path(__file__).parents[2] / "roles"
PUBLIC = ("host", "docker", "rocm", "transformers", "weights", "vllm")
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
    assert set(read(role, "defaults/main.yml")) == set(options(role))


@pytest.mark.parametrize("role", PUBLIC)
def test_no_spec_repeats_a_default(role: str) -> None:
    assert [name for name, spec in options(role).items() if "default" in spec] == []


@pytest.mark.parametrize("role", PUBLIC)
def test_every_default_has_the_type_of_its_spec(role: str) -> None:
    types = {name: type(value) for name, value in read(role, "defaults/main.yml").items()}
    assert types == {name: TYPES[spec["type"]] for name, spec in options(role).items()}


@pytest.mark.parametrize("role", PUBLIC)
def test_every_variable_begins_with_the_name_of_its_role(role: str) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", PUBLIC)
def test_every_variable_is_used(role: str) -> None:
    text = "".join(
        path.read_text()
        for folder in ("tasks", "templates", "vars", "handlers", "defaults")
        for path in (ROLES / role / folder).glob("*")
    )
    assert [name for name in options(role) if text.count(name) < 2] == []


@pytest.mark.parametrize("role", PUBLIC)
def test_tasks_main_is_a_table_of_contents(role: str) -> None:
    tasks = read(role, "tasks/main.yml")
    assert {key for task in tasks for key in task} == {"name", "ansible.builtin.import_tasks"}
    assert tasks[0]["ansible.builtin.import_tasks"] == "preflight.yml"


@pytest.mark.parametrize("role", [*PUBLIC, "long_task"])
def test_no_message_has_a_backslash_at_the_end_of_a_line(role: str) -> None:
    """YAML and Jinja keep it there: the user would read it."""
    for file in (ROLES / role / "tasks").glob("*.yml"):
        assert not [line for line in file.read_text().splitlines() if line.endswith("\\")], file


@pytest.mark.parametrize("role", [*PUBLIC, "long_task"])
def test_no_role_knows_the_lab(role: str) -> None:
    assert [path for path in files(role) if "lab." in path.read_text().lower()] == []


def test_the_role_vllm_sets_no_development_mode_and_trusts_no_remote_code() -> None:
    """VLLM_SERVER_DEV_MODE opens management routes; --trust-remote-code is the precondition of a remote execution."""
    text = "".join(
        path.read_text() for path in (ROLES / "vllm").rglob("*.[jpy]*") if path.is_file() and path.suffix != ".pyc"
    )
    assert "DEV_MODE" not in text and "trust-remote-code" not in text
