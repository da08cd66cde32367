"""The real engine previews each stack: no machine answers at 192.0.2.x, so what ends well opened no connection.

Needs `pulumi` on PATH (`make setup`, `eval "$(make env)"`); skipped with that reason where it is not.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import KEY, link_project, make_stack, pulumi

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not shutil.which("pulumi"), reason="no pulumi on PATH: `make setup` brings it"),
]


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
    ("stack", "resources"), [("dev", 7), ("staging", 7), ("prod", 19), ("dr", 19)], indirect=["stack"]
)
def test_each_stack_previews_with_no_machine_there(project: Path, stack: str, resources: int) -> None:
    code, output = preview(project, stack)
    assert code == 0, output
    assert f"+ {resources} to create" in output
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
    assert "vllm_privileged is on: whoever breaks into the model server" in output
    assert "remedy: leave vllm_privileged out" in output


def test_a_key_that_can_be_guessed_stops_the_preview_and_is_not_shown(project: Path, stack: str) -> None:
    pulumi(project, "config", "set", "--secret", "vllm_api_key", "hallo-welt", "-s", stack)
    code, output = preview(project, stack)
    assert code == 1
    assert "[mandatory]  api-key-set-and-secret" in output
    assert "hallo-welt" not in output
