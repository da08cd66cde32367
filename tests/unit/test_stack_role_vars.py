"""What a stack may say to the roles is what the roles say they know; the roles here are small ones of the test's own."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.stack import resource_roles, role_digest, role_vars

GOLDEN = Path(__file__).parent / "golden" / "stack_role_vars"
FILE = "stacks/Pulumi.prod.yaml"
OPTIONS: dict[str, dict[str, Any]] = {
    "vllm": {
        "vllm_flags": {"type": "dict", "description": "Flags of vllm serve."},
        "vllm_start_timeout": {
            "type": "int",
            "description": ["Seconds until the API answers.", "Model load included."],
        },
        "vllm_privileged": {"type": "bool"},
        "vllm_image": {"type": "str"},
        "vllm_replicas": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, "port": {"type": "int"}},
        },
    },
    "docker": {"docker_packages": {"type": "list", "elements": "str"}},
    "rocm": {"rocm_suite": {"type": "str", "choices": ["jammy", "noble"]}, "rocm_version": {"type": "str"}},
}


@pytest.fixture
def roles(tmp_path: Path) -> role_vars.Roles:
    for names in (*resource_roles.ROLES.values(), (resource_roles.HELPER,)):
        for name in names:
            write(tmp_path / name / "meta" / "argument_specs.yml", OPTIONS.get(name, {}))
            (tmp_path / name / "tasks").mkdir()
            (tmp_path / name / "tasks" / "main.yml").write_text(f"# {name}\n")
    return role_vars.load(tmp_path)


def write(path: Path, options: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"argument_specs": {"main": {"options": options}}}))


@pytest.mark.parametrize(
    ("claim", "values"),
    [
        ("a-misspelled-variable", {"vlm_flags": {}}),
        ("a-variable-like-no-other", {"temperature": 1}),
        ("text-for-a-number", {"vllm_start_timeout": "soon"}),
        ("a-number-for-yes-or-no", {"vllm_privileged": 7}),
        ("text-for-a-mapping", {"vllm_flags": "max-model-len"}),
        ("a-mapping-for-a-list", {"docker_packages": {"docker.io": "20.10"}}),
        ("a-choice-that-is-none", {"rocm_suite": "nobel"}),
        ("a-misspelled-key-in-a-list", {"vllm_replicas": [{"name": "glm-0", "prot": 8000}]}),
        ("a-key-missing-in-a-list", {"vllm_replicas": [{"port": 8000}]}),
        ("what-the-program-sets", {"vllm_image": "registry.example/a@sha256:00"}),
    ],
)
def test_a_mistake_is_told(claim: str, values: dict[str, Any], roles: role_vars.Roles) -> None:
    told = [f"{mistake}\n" for mistake in roles.validate(values, FILE, "vars")]
    assert told == [(GOLDEN / f"{claim}.txt").read_text()]


def test_what_pulumi_config_set_writes_as_text_becomes_what_the_role_wants(roles: role_vars.Roles) -> None:
    assert roles.coerce({"vllm_start_timeout": "900", "vllm_privileged": "false"}) == {
        "vllm_start_timeout": 900,
        "vllm_privileged": False,
    }


def test_an_expression_is_left_to_ansible(roles: role_vars.Roles) -> None:
    assert not list(roles.validate({"vllm_start_timeout": "{{ 60 * 15 }}"}, FILE, "vars"))


def test_a_resource_gets_only_the_variables_of_its_roles(roles: role_vars.Roles) -> None:
    values = {"vllm_flags": {}, "docker_packages": [], "rocm_version": "7.2.3"}
    assert roles.variables_of("host", values) == {"docker_packages": [], "rocm_version": "7.2.3"}
    assert roles.variables_of("serving", values) == {"vllm_flags": {}}


def test_an_edited_task_shows_as_a_change_of_that_file_of_that_role(roles: role_vars.Roles, tmp_path: Path) -> None:
    (tmp_path / "docker" / "tasks" / "main.yml").write_text("# edited\n")
    before, after = roles.files("host"), role_vars.load(tmp_path).files("host")
    changed = {role: role_digest.changed_paths(before[role], after[role]) for role in before}
    assert changed == {"host": [], "docker": ["tasks/main.yml"], "rocm": []}


def test_an_edited_description_changes_nothing(roles: role_vars.Roles, tmp_path: Path) -> None:
    write(tmp_path / "docker" / "meta" / "argument_specs.yml", {})
    (tmp_path / "docker" / "README.md").write_text("words")
    assert role_vars.load(tmp_path).files("host") == roles.files("host")


def test_a_machine_may_set_one_flag_and_keep_the_others() -> None:
    stack = {"vllm_flags": {"max-model-len": 65536, "enforce-eager": True}, "docker_packages": ["docker.io"]}
    machine = {"vllm_flags": {"max-model-len": 8192}, "docker_packages": ["docker-ce"]}
    assert role_vars.merge(stack, machine) == {
        "vllm_flags": {"max-model-len": 8192, "enforce-eager": True},
        "docker_packages": ["docker-ce"],
    }
    assert stack["vllm_flags"] == {"max-model-len": 65536, "enforce-eager": True}


def test_a_digest_changes_with_a_file_and_with_its_name(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("same")
    two.write_text("same")
    first = role_vars.digest([one])
    assert first != role_vars.digest([two])
    assert role_vars.digest([one, two]) == role_vars.digest([two, one])
    one.write_text("other")
    assert role_vars.digest([one]) != first
