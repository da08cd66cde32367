"""Text in a role variable adds nothing to the line that it is written into: fleet/stack/text_forms.py and each role's meta/text_forms.yml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.stack import role_vars, text_forms

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "stack_role_vars"


@pytest.fixture(scope="module")
def roles() -> role_vars.Roles:
    return role_vars.load(ROOT / "roles")


def refused(roles: role_vars.Roles, **values: Any) -> list[str]:
    return [str(mistake) for mistake in roles.validate(values, "stacks/Pulumi.prod.yaml", "vars")]


def test_every_variable_that_holds_text_has_a_form(roles: role_vars.Roles) -> None:
    free = [
        name
        for name, spec in roles.options.items()
        if (spec["type"] in ("str", "path", "dict") or spec.get("elements") in ("str", "dict"))
        and name not in roles.text_forms
    ]
    assert free == [], "give each a form of fleet/stack/text_forms.py in its role's meta/text_forms.yml"


def leaves(form: Any) -> Iterator[str]:
    """Yield the names of forms in an entry of meta/text_forms.yml."""
    if isinstance(form, dict):
        for inner in form.values():
            yield from leaves(inner)
    else:
        yield form


def test_every_form_belongs_to_a_variable_and_is_known(roles: role_vars.Roles) -> None:
    assert set(roles.text_forms) <= set(roles.options), (
        "a role's meta/text_forms.yml names a variable that it does not have"
    )
    named = {name for form in roles.text_forms.values() for name in leaves(form)}
    assert named - set(text_forms.FORMS) == set(), "add the form to FORMS in fleet/stack/text_forms.py, or name another"
    assert set(text_forms.FORMS) - named == set(), "no role uses this form: remove it from fleet/stack/text_forms.py"


def test_every_default_and_every_stack_of_ours_has_its_form(roles: role_vars.Roles) -> None:
    wrong = [
        found
        for name, form in roles.text_forms.items()
        for found in text_forms.mismatches(roles.defaults.get(name, ""), form, name)
    ]
    assert wrong == []
    for file in sorted((ROOT / "stacks").glob("Pulumi.*.yaml")):
        assert refused(roles, **yaml.safe_load(file.read_text())["config"].get("glm-fleet:vars", {})) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vllm_memory", "900g --privileged --volume=/:/host"),
        ("vllm_shm_size", "32g \\\n  --privileged"),
        ("vllm_media_dir", "/srv/media,readonly=false"),
        ("vllm_media_dir", "/srv/media/../../etc"),
        ("vllm_cache_dir", "/var/cache/vllm --device=/dev/sda"),
        ("vllm_chat_template", "/etc/x,target=/y --privileged"),
        ("vllm_entrypoint", ["sh", "-c", "exec vllm serve --trust-remote-code"]),
        ("vllm_entrypoint", ["vllm", "serve", "$(id)"]),
        ("vllm_replicas", [{"name": "glm-0 --privileged", "port": 8000}]),
        ("vllm_environment", {"A B": "1"}),
        ("vllm_environment", {"A": "1\nVLLM_SERVER_DEV_MODE=1"}),
        ("vllm_served_model_name", "glm\nExecStartPre=/bin/sh"),
        ("host_kernel_arguments", ["iommu=pt init=/bin/sh"]),
        ("host_time_service", "chrony; reboot"),
        ("docker_repository_suite", "noble\nTrusted: yes"),
        ("docker_repository_url", "http://mirror.example/ [trusted=yes]"),
        ("rocm_components", "main\nSigned-By: /tmp/key"),
        ("rocm_packages", ["amd-smi-lib", "-oAPT::Get::AllowUnauthenticated=1"]),
        ("transformers_pip_args", "--no-index; curl http://192.0.2.9/"),
        ("transformers_repository", "--upload-pack=/bin/sh"),
        ("transformers_base_image", "registry.example/vllm@sha256:12 && id"),
        ("transformers_user", "0:0 --privileged"),
        ("weights_dir", "/srv/models/../../etc"),
    ],
)
def test_text_that_adds_something_is_refused(roles: role_vars.Roles, name: str, value: Any) -> None:
    (mistake,) = refused(roles, **{name: value})
    assert ": has the wrong form\n  wanted: " in mistake


@pytest.mark.parametrize("value", ["{% if 1 %}--trust-remote-code{% endif %}", "32g{# --privileged #}"])
@pytest.mark.parametrize("name", ["vllm_shm_size", "vllm_environment", "vllm_entrypoint", "docker_daemon_options"])
def test_a_statement_of_jinja_is_refused_wherever_it_stands(roles: role_vars.Roles, name: str, value: str) -> None:
    whole = {
        "vllm_environment": {"A": value},
        "vllm_entrypoint": ["vllm", value],
        "docker_daemon_options": {"a": [value]},
    }
    (mistake,) = refused(roles, **{name: whole.get(name, value)})
    assert "holds a statement or a comment of Jinja" in mistake


def test_the_message_names_key_text_and_form(roles: role_vars.Roles) -> None:
    (mistake,) = refused(roles, vllm_memory="900g --privileged")
    assert f"{mistake}\n" == (GOLDEN / "text-that-adds-an-option.txt").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vllm_memory", ""),
        ("vllm_memory", "900g"),
        ("vllm_entrypoint", ["/opt/venv/bin/python3", "-m", "vllm.entrypoints.openai.api_server", "--seed=1"]),
        ("vllm_environment", {"VLLM_ROCM_USE_AITER": 1, "NAME": "a b 'c' \"d\" = é"}),
        ("rocm_repository_url", "https://mirror.example/rocm/apt/{{ rocm_version }}"),
        ("rocm_driver_version", "1:6.12.12.*"),
        ("transformers_base_image", "localhost:5000/rocm/vllm:v0.32.0@sha256:" + "ab" * 32),
        ("host_sysctls", {"net.ipv4.tcp_rmem": "4096 87380 16777216"}),
    ],
)
def test_what_a_stack_may_well_say_is_taken(roles: role_vars.Roles, name: str, value: Any) -> None:
    assert refused(roles, **{name: value}) == []
