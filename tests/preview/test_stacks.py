"""The real Pulumi engine previews each stack: no machine answers at 192.0.2.x, so a preview that succeeds opened no connection.

Needs `pulumi` on PATH (`make setup`, `eval "$(make env)"`); skipped with that reason where it is not.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.environment import expect_failure, expect_success
from tests.support.pulumi_project import KEY, link_project, make_stack, pulumi


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def ready() -> dict[str, str]:
    """The texts of the stack files, by the stacks that are in the backend."""
    return {}


@pytest.fixture
def stack(request: pytest.FixtureRequest, project: Path, ready: dict[str, str]) -> Iterator[str]:
    """A stack with an API key; the end of the test restores its file."""
    name: str = getattr(request, "param", "prod")
    if name not in ready:
        ready[name] = make_stack(project, name).read_text()
    yield name
    (project / "stacks" / f"Pulumi.{name}.yaml").write_text(ready[name])


def preview(project: Path, stack: str) -> subprocess.CompletedProcess[str]:
    """Preview with the policies."""
    return pulumi(project, "preview", "-s", stack, "--policy-pack", "policies", "--color", "never")


def configure(project: Path, stack: str, path: str, value: str) -> None:
    pulumi(project, "config", "set", "--path", f"glm-fleet:{path}", value, "-s", stack)


def waive(project: Path, stack: str, rule: str, reason: str, expires: str) -> None:
    """Waive a rule by the commands of docs/policies.md."""
    for key, value in (("reason", reason), ("expires", expires)):
        configure(project, stack, f'waivers["{rule}"].{key}', value)


@pytest.mark.parametrize(
    ("stack", "resources"), [("lab", 20), ("dev", 7), ("staging", 7), ("prod", 24), ("dr", 24)], indirect=["stack"]
)
def test_each_stack_previews_without_a_machine(project: Path, stack: str, resources: int) -> None:
    output = expect_success(preview(project, stack))
    assert f"+ {resources} to create" in output
    assert "[mandatory]" not in output and "[advisory]" not in output
    assert KEY not in output


def test_a_preview_reports_every_mistake_in_a_stack_at_once_without_a_traceback(project: Path, stack: str) -> None:
    configure(project, stack, "vars.vlm_flags.max-model-len", "4096")
    configure(project, stack, "vars.vllm_start_timeout", "soon")
    output = expect_failure(preview(project, stack), 1)
    assert (
        "error: stacks/Pulumi.prod.yaml: vars.vlm_flags: no role knows this variable\n"
        "      wanted: a variable of roles/*/meta/argument_specs.yml\n"
        "      next:   did you mean vllm_flags?\n"
    ) in output
    assert 'vars.vllm_start_timeout: "soon": not a whole number' in output
    assert "Traceback" not in output


def test_a_violation_of_a_policy_stops_the_preview_with_name_reason_and_remedy(project: Path, stack: str) -> None:
    configure(project, stack, "vars.vllm_privileged", "true")
    output = expect_failure(preview(project, stack), 1)
    assert "[mandatory]  container-not-privileged  (fleet:index:Serving: prod-1)" in output
    assert "vllm_privileged is on: an attacker who breaks into the vLLM server" in output
    assert "remedy: leave vllm_privileged out" in output


def test_a_guessable_key_stops_the_preview_which_does_not_show_it(project: Path, stack: str) -> None:
    pulumi(project, "config", "set", "--secret", "vllm_api_key", "hallo-welt", "-s", stack)
    output = expect_failure(preview(project, stack), 1)
    assert "[mandatory]  api-key-set-and-secret" in output
    assert "hallo-welt" not in output


def test_the_pulumi_engine_s_log_has_no_secret_up_to_the_verbosity_that_the_readme_names(
    project: Path, stack: str
) -> None:
    more = ["--debug", "--diff", "-v=8", "--logtostderr", "--logflow"]
    run = pulumi(project, "preview", "-s", stack, "--policy-pack", "policies", *more)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "RegisterResource" in run.stderr and "api_key" in run.stdout
    assert leaks.Needles({"api key": KEY}).of((run.stdout + run.stderr).encode()) == []


def test_every_preview_reports_waivers_and_released_machines(project: Path, stack: str) -> None:
    file = project / "stacks" / "Pulumi.prod.yaml"
    waivers = """config:
  glm-fleet:waivers:
    no-ptrace: {reason: profile the engine, expires: 2999-12-31}
    no-host-ipc: {reason: old, expires: "2026-01-31"}
  glm-fleet:release: {prod-4: mainboard replaced 2026-11-25}
"""
    file.write_text(file.read_text().replace("config:\n", waivers, 1))
    configure(project, stack, "vars.vllm_ptrace", "true")
    output = expect_success(preview(project, stack))
    assert "[advisory]  waivers  (pulumi:pulumi:Stack: glm-fleet-prod)" in output
    assert "waivers.no-ptrace: waived until 2999-12-31: profile the engine" in output
    assert "waivers.no-host-ipc: its waiver expired on 2026-01-31 and does not count" in output
    assert output.count("[advisory]  no-ptrace  (fleet:index:Serving: prod-") == 1  # of four machines
    assert "prod-4 is released (mainboard replaced 2026-11-25): Pulumi no longer protects it" in output


def test_the_stack_waives_a_rule_of_the_plan_and_every_preview_reports_it(project: Path, stack: str) -> None:
    configure(project, stack, 'vars.vllm_flags["max-model-len"]', "200000")
    assert "docs/rules.md says why (context-of-model)" in expect_failure(preview(project, stack), 1)
    waive(project, stack, "context-of-model", "rope scaling measured", "2999-12-31")
    output = expect_success(preview(project, stack))
    assert "200000: longer than the model's context" in output
    assert "(waived until 2999-12-31: rope scaling measured)" in output
    assert "waivers.context-of-model: waived until 2999-12-31" in output


def test_a_preview_reports_a_waiver_of_an_unknown_rule(project: Path, stack: str) -> None:
    waive(project, stack, "no-ptrac", "profile the engine", "2026-12-31")
    output = expect_failure(preview(project, stack), 1)
    assert "waivers.no-ptrac: no rule has this name" in output and "remedy: did you mean no-ptrace?" in output


@pytest.fixture
def deployed(project: Path, stack: str, tmp_path: Path) -> Iterator[str]:
    """A machine that is in the stack's state, with its Host, and not in its file; the end of the test empties the state."""
    file, name = tmp_path / "state.json", "prod-9"
    base = f"urn:pulumi:{stack}::glm-fleet::"
    root, provider = f"{base}pulumi:pulumi:Stack::glm-fleet-{stack}", f"{base}pulumi:providers:fleet::fleet"
    node, host = f"{base}fleet:index:Node::{name}", f"{base}fleet:index:Node$fleet:index:Host::{name}"
    values = {"inputs": {"name": name}, "outputs": {}}
    ours = {"custom": True, "protect": True, "provider": f"{provider}::fleet-0", **values}
    resources = [
        {"urn": root, "type": "pulumi:pulumi:Stack", "custom": False},
        {"urn": provider, "type": "pulumi:providers:fleet", "custom": True, "id": "fleet-0", "parent": root},
        {"urn": node, "type": "fleet:index:Node", "id": f"node/{name}", "parent": root, **ours},
        {"urn": host, "type": "fleet:index:Host", "id": f"host/{name}", "parent": node, **ours},
    ]
    manifest = {"time": "2026-11-25T00:00:00Z", "magic": "", "version": ""}
    for items in (resources, []):
        file.write_text(json.dumps({"version": 3, "deployment": {"manifest": manifest, "resources": items}}))
        expect_success(pulumi(project, "stack", "import", "-s", stack, "--file", str(file)))
        if items:
            yield name


def test_without_a_release_nothing_of_a_machine_is_deleted(project: Path, stack: str, deployed: str) -> None:
    output = expect_failure(preview(project, stack), 1)
    assert f'fleet:index:Host::{deployed}" cannot be deleted\n    because it is protected.' in output
    destroy = pulumi(project, "destroy", "-s", stack, "--yes", "--skip-preview", "--color", "never")
    assert destroy.returncode != 0 and "because it is protected" in destroy.stdout
    left = json.loads(pulumi(project, "stack", "export", "-s", stack).stdout)["deployment"]["resources"]
    assert [item["type"] for item in left if item.get("protect")] == ["fleet:index:Node", "fleet:index:Host"]
