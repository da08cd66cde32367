"""The real engine previews each stack: no machine answers at 192.0.2.x, so what ends well opened no connection.

Needs `pulumi` on PATH (`make setup`, `eval "$(make env)"`); skipped with that reason where it is not.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.pulumi_project import KEY, link_project, make_stack, pulumi


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def ready() -> dict[str, str]:
    """The files of the stacks that are in the backend and have an API key."""
    return {}


@pytest.fixture
def stack(request: pytest.FixtureRequest, project: Path, ready: dict[str, str]) -> Iterator[str]:
    """Return a stack that has an API key; its file is as before when the test is over."""
    name: str = getattr(request, "param", "prod")
    if name not in ready:
        ready[name] = make_stack(project, name).read_text()
    yield name
    (project / "stacks" / f"Pulumi.{name}.yaml").write_text(ready[name])


def preview(project: Path, stack: str) -> tuple[int, str]:
    """Preview with the policies on; return exit code and output."""
    done = pulumi(project, "preview", "-s", stack, "--policy-pack", "policies", "--color", "never")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("stack", "resources"), [("lab", 14), ("dev", 7), ("staging", 7), ("prod", 19), ("dr", 19)], indirect=["stack"]
)
def test_each_stack_previews_with_no_machine_there(project: Path, stack: str, resources: int) -> None:
    code, output = preview(project, stack)
    assert code == 0, output
    assert f"+ {resources} to create" in output
    assert "[mandatory]" not in output and "[advisory]" not in output
    assert KEY not in output


def test_every_mistake_in_a_stack_is_told_at_once_without_a_traceback(project: Path, stack: str) -> None:
    pulumi(project, "config", "set", "--path", "glm-fleet:vars.vlm_flags.max-model-len", "4096", "-s", stack)
    pulumi(project, "config", "set", "--path", "glm-fleet:vars.vllm_start_timeout", "soon", "-s", stack)
    code, output = preview(project, stack)
    assert code == 1
    assert (
        "error: stacks/Pulumi.prod.yaml: vars.vlm_flags: no role knows this variable\n"
        "      wanted: a variable of roles/*/meta/argument_specs.yml\n"
        "      next:   did you mean vllm_flags?\n"
    ) in output
    assert 'vars.vllm_start_timeout: "soon": not a whole number' in output
    assert "Traceback" not in output


def test_a_policy_that_is_broken_stops_the_preview_with_name_reason_and_remedy(project: Path, stack: str) -> None:
    pulumi(project, "config", "set", "--path", "glm-fleet:vars.vllm_privileged", "true", "-s", stack)
    code, output = preview(project, stack)
    assert code == 1
    assert "[mandatory]  container-not-privileged  (fleet:index:Serving: prod-1)" in output
    assert "vllm_privileged is on: an attacker who breaks into the vLLM server" in output
    assert "remedy: leave vllm_privileged out" in output


def test_a_key_that_can_be_guessed_stops_the_preview_and_is_not_shown(project: Path, stack: str) -> None:
    pulumi(project, "config", "set", "--secret", "vllm_api_key", "hallo-welt", "-s", stack)
    code, output = preview(project, stack)
    assert code == 1
    assert "[mandatory]  api-key-set-and-secret" in output
    assert "hallo-welt" not in output


def test_the_engine_s_own_log_has_no_secret_up_to_the_verbosity_that_the_readme_names(
    project: Path, stack: str
) -> None:
    more = ["--debug", "--diff", "-v=8", "--logtostderr", "--logflow"]
    done = pulumi(project, "preview", "-s", stack, "--policy-pack", "policies", *more)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "RegisterResource" in done.stderr and "api_key" in done.stdout
    assert leaks.Needles({"api key": KEY}).of((done.stdout + done.stderr).encode()) == []


def test_waivers_and_released_machines_are_repeated_at_every_preview(project: Path, stack: str) -> None:
    file = project / "stacks" / "Pulumi.prod.yaml"
    told = """config:
  glm-fleet:waivers:
    no-ptrace: {reason: profile the engine, expires: 2999-12-31}
    no-host-ipc: {reason: old, expires: "2026-01-31"}
  glm-fleet:release: {prod-4: mainboard replaced 2026-11-25}
"""
    file.write_text(file.read_text().replace("config:\n", told, 1))
    pulumi(project, "config", "set", "--path", "glm-fleet:vars.vllm_ptrace", "true", "-s", stack)
    code, output = preview(project, stack)
    assert code == 0, output
    assert "[advisory]  waivers  (pulumi:pulumi:Stack: glm-fleet-prod)" in output
    assert "waivers.no-ptrace: waived until 2999-12-31: profile the engine" in output
    assert "waivers.no-host-ipc: its waiver expired on 2026-01-31 and does not count" in output
    assert output.count("[advisory]  no-ptrace  (fleet:index:Serving: prod-") == 1  # of four machines
    assert "prod-4 is released (mainboard replaced 2026-11-25): Pulumi no longer protects it" in output


def test_a_rule_of_the_plan_is_silenced_in_the_same_place_and_repeated_at_every_preview(
    project: Path, stack: str
) -> None:
    pulumi(project, "config", "set", "--path", 'glm-fleet:vars.vllm_flags["max-model-len"]', "200000", "-s", stack)
    code, output = preview(project, stack)
    assert code == 1 and "docs/rules.md says why (context-of-model)" in output, output
    key = 'glm-fleet:waivers["context-of-model"]'
    pulumi(project, "config", "set", "--path", f"{key}.reason", "rope scaling measured", "-s", stack)
    pulumi(project, "config", "set", "--path", f"{key}.expires", "2999-12-31", "-s", stack)
    code, output = preview(project, stack)
    assert code == 0, output
    assert "200000: longer than the model's context" in output
    assert "(waived until 2999-12-31: rope scaling measured)" in output
    assert "waivers.context-of-model: waived until 2999-12-31" in output


def test_a_waiver_is_set_by_the_commands_of_the_page_on_policies(project: Path, stack: str) -> None:
    key = 'glm-fleet:waivers["no-ptrac"]'
    pulumi(project, "config", "set", "--path", f"{key}.reason", "profile the engine", "-s", stack)
    pulumi(project, "config", "set", "--path", f"{key}.expires", "2026-12-31", "-s", stack)
    code, output = preview(project, stack)
    assert code == 1
    assert "waivers.no-ptrac: no rule has this name" in output and "remedy: did you mean no-ptrace?" in output


@pytest.fixture
def deployed(project: Path, stack: str, tmp_path: Path) -> Iterator[str]:
    """Return a machine that is in the stack's state, with its Host, and not in its file; the state is empty again after."""
    file, name = tmp_path / "state.json", "prod-9"
    base = f"urn:pulumi:{stack}::glm-fleet::"
    root, provider = f"{base}pulumi:pulumi:Stack::glm-fleet-{stack}", f"{base}pulumi:providers:fleet::fleet"
    node, host = f"{base}fleet:index:Node::{name}", f"{base}fleet:index:Node$fleet:index:Host::{name}"
    ours = {
        "custom": True,
        "protect": True,
        "provider": f"{provider}::fleet-0",
        "inputs": {"name": name},
        "outputs": {},
    }
    resources = [
        {"urn": root, "type": "pulumi:pulumi:Stack", "custom": False},
        {"urn": provider, "type": "pulumi:providers:fleet", "custom": True, "id": "fleet-0", "parent": root},
        {"urn": node, "type": "fleet:index:Node", "id": f"node/{name}", "parent": root, **ours},
        {"urn": host, "type": "fleet:index:Host", "id": f"host/{name}", "parent": node, **ours},
    ]
    manifest = {"time": "2026-11-25T00:00:00Z", "magic": "", "version": ""}
    for one in (resources, []):
        file.write_text(json.dumps({"version": 3, "deployment": {"manifest": manifest, "resources": one}}))
        done = pulumi(project, "stack", "import", "-s", stack, "--file", str(file))
        assert done.returncode == 0, done.stderr
        if one:
            yield name


def test_a_machine_that_was_not_released_is_not_deleted_and_nothing_on_it_is(
    project: Path, stack: str, deployed: str
) -> None:
    code, output = preview(project, stack)
    assert code == 1
    assert f'fleet:index:Host::{deployed}" cannot be deleted\n    because it is protected.' in output
    ended = pulumi(project, "destroy", "-s", stack, "--yes", "--skip-preview", "--color", "never")
    assert ended.returncode != 0 and "because it is protected" in ended.stdout
    left = json.loads(pulumi(project, "stack", "export", "-s", stack).stdout)["deployment"]["resources"]
    assert [one["type"] for one in left if one.get("protect")] == ["fleet:index:Node", "fleet:index:Host"]
