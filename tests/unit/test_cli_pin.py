"""`fleet pin` shows what tags and branches name now, and after a yes writes that into the stack file; every other line is unchanged.

Registry and hub are servers on the loopback; git is a stand-in (tests/upstream/test_git.py has the real one).
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click import testing

from fleet import errors, findings
from fleet.cli import main, pin, stack_edit
from fleet.stack import role_vars, stack_file, validate
from tests.support.programs import write_program
from tests.support.upstream_servers import Plain, Registry

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "cli_pin"
DIGEST, COMMIT, REVISION, OTHER = "sha256:" + "ab" * 32, "12" * 20, "34" * 20, "56" * 20
STACK = """\
# Our machines.
config:
  glm-fleet:nodes:
    source: ssh
    machines:
      prod-1: {{address: 192.0.2.11, host_key: "{key}"}} # the old one
      prod-2:
        address: 192.0.2.12
        host_key: "{key}"
        vars: {{weights_repository: zai-org/GLM-4.6V-FP8, weights_revision: "main"}} # a trial
  glm-fleet:vars:
    # the image
    transformers_base_image: "{registry}/glm/vllm:v0.31.0"
    transformers_base_vllm: "0.31.0" # the vLLM in that image
    transformers_repository: https://git.example/transformers.git
    transformers_commit: v5.3.0 # of upstream
    # weights
    weights_endpoint: {hub}
    weights_repository: zai-org/GLM-4.6V
    weights_revision: main
    vllm_flags:
      tensor-parallel-size: 4 # two replicas
  glm-fleet:acceptance: {{image: "{registry}/glm/bench:v1"}}
encryptionsalt: v1:V9QR:v1:6K+j:qrb6
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJc0gWgNv9qpDwo4fLNLD9T/Vupb4qMp3hGdhvI5GoUO"


@dataclass
class World:
    """The stack file `test` and the servers that it names."""

    path: Path
    registry: Registry
    hub: Plain

    def readable(self, text: str) -> str:
        """Return a text without the servers' ports, as the golden files have it."""
        text = text.replace(self.registry.name, "registry.example").replace(self.hub.url, "https://hub.example")
        return text.replace(self.hub.url[7:], "hub.example")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    registry, hub = Registry(tmp_path), Plain()
    registry.tags |= {"glm/vllm:v0.31.0": DIGEST, "glm/bench:v1": DIGEST.replace("ab", "cd")}
    hub.json("/api/models/zai-org/GLM-4.6V/revision/main", {"sha": REVISION})
    hub.json("/api/models/zai-org/GLM-4.6V-FP8/revision/main", {"sha": OTHER})
    (tmp_path / "bin").mkdir()
    tags = f"{'9' * 40}\\trefs/tags/v5.3.0\\n{COMMIT}\\trefs/tags/v5.3.0^{{}}\\n"
    write_program(tmp_path / "bin" / "git", f"printf '{tags}'")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("SSL_CERT_FILE", str(registry.certificate))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(findings, "today", lambda: datetime.date(2026, 11, 29))
    (tmp_path / "Pulumi.yaml").touch()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "stacks" / "Pulumi.test.yaml"
    path.parent.mkdir()
    path.write_text(STACK.format(key=KEY, registry=registry.name, hub=hub.url))
    yield World(path, registry, hub)
    registry.close()
    hub.close()


def run(*words: str, stdin: str = "") -> testing.Result:
    """Run `fleet pin` on the stack `test`."""
    return testing.CliRunner().invoke(main.main, ["pin", "-s", "test", *words], input=stdin)


def test_pin_shows_old_and_new_values_and_writes_nothing_without_a_yes(world: World) -> None:
    before = world.path.read_text()
    result = run(stdin="n\n")
    assert result.exit_code == 1
    assert world.readable(result.output) == (GOLDEN / "no.txt").read_text()
    assert world.path.read_text() == before


def test_after_a_yes_the_file_has_the_values_with_tag_and_date_and_every_other_line_is_unchanged(world: World) -> None:
    result = run(stdin="y\n")
    assert result.exit_code == 0, result.output
    assert world.readable(world.path.read_text()) == (GOLDEN / "pinned.yaml").read_text()
    assert result.output.endswith("stacks/Pulumi.test.yaml: written; `git diff stacks/Pulumi.test.yaml` shows it\n")
    again = run()
    assert again.exit_code == 0
    assert again.output == "stacks/Pulumi.test.yaml names everything by digest or commit already\n"


def test_with_the_flag_yes_pin_asks_nothing(world: World) -> None:
    assert run("--yes").exit_code == 0
    assert world.readable(world.path.read_text()) == (GOLDEN / "pinned.yaml").read_text()


def test_a_preview_accepts_what_pin_writes(world: World) -> None:
    roles, file = role_vars.load(ROOT / "roles"), "stacks/Pulumi.test.yaml"
    before = validate.validate(stack_file.read("test", world.path.parents[1]), roles, file, findings.today())
    mistakes = [error for error in before.mistakes if "(pinned)" in error.next]
    assert [error.key for error in mistakes] == [
        "vars.transformers_base_image",
        "vars.transformers_commit",
        "vars.weights_revision",
        "nodes.machines.prod-2.vars.weights_revision",
    ]
    assert world.readable(str(mistakes[0])) == (GOLDEN / "refused.txt").read_text().rstrip("\n")
    run("--yes")
    after = validate.validate(stack_file.read("test", world.path.parents[1]), roles, file, findings.today())
    assert not [error for error in after.mistakes if "(pinned)" in error.next]


def test_one_name_that_pin_cannot_resolve_leaves_the_file_unchanged(world: World) -> None:
    before = world.path.read_text()
    world.hub.json("/api/models/zai-org/GLM-4.6V/revision/main", {"sha": "main # x"})
    result = run("--yes")
    assert result.exit_code == 1
    assert world.readable(result.output) == (GOLDEN / "hostile-hub.txt").read_text()
    assert world.path.read_text() == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("transformers_comit: v5.3.0", "did you mean transformers_commit?"),
        ("transformers_commit: v5.3.0\n    weights_parallel: many", "vars.weights_parallel"),
    ],
)
def test_pin_refuses_an_unknown_variable_before_it_asks_a_server(world: World, line: str, message: str) -> None:
    world.path.write_text(world.path.read_text().replace("transformers_commit: v5.3.0", line))
    result = run("--yes")
    assert (result.exit_code, world.registry.requests, world.hub.requests) == (1, [], [])
    assert message in result.output


def test_pin_asks_the_mirror_and_keeps_the_name(world: World) -> None:
    text = world.path.read_text().replace(f'"{world.registry.name}/glm/vllm', '"docker.io/glm/vllm')
    mirrors = f"  glm-fleet:mirrors: {{registry: '{world.registry.name}'}}\n"
    world.path.write_text(text.replace("encryptionsalt", f"{mirrors}encryptionsalt"))
    assert run("--yes").exit_code == 0
    assert f'transformers_base_image: "docker.io/glm/vllm@{DIGEST}" # v0.31.0, 2026-11-29\n' in world.path.read_text()


def test_pin_writes_into_the_separate_file_of_a_machine(world: World) -> None:
    machines = world.path.with_name("machines.yaml")
    machines.write_text(
        f'prod-1:\n  address: 192.0.2.11\n  host_key: "{KEY}"\n  vars: {{transformers_commit: v5.3.0}}\n'
    )
    lines = world.path.read_text().splitlines(keepends=True)
    world.path.write_text("".join([*lines[:4], "    machines: machines.yaml\n", *lines[10:]]))
    result = run("--yes")
    assert result.exit_code == 0, result.output
    assert f'vars: {{transformers_commit: "{COMMIT}"}} # v5.3.0, 2026-11-29\n' in machines.read_text()
    assert "stacks/machines.yaml: written" in result.output


def test_pin_refuses_a_name_that_means_another_commit_on_one_machine(world: World) -> None:
    world.path.write_text(world.path.read_text().replace(', weights_revision: "main"}', "}"))
    result = run("--yes")
    assert result.exit_code == 1
    assert world.readable(result.output) == (GOLDEN / "elsewhere.txt").read_text()


def test_a_machine_without_gpus_looks_up_nothing(world: World) -> None:
    text = world.path.read_text()
    world.path.write_text(text.replace("} # the old one", ", gpus: 0} # the door"))
    result = run("--yes")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a: &x main\nb: *x\n", ["b"]),
        ("a: >-\n  main\n", ["a"]),
        ("x: &x {a: main}\nb:\n  <<: *x\n", ["b", "a"]),
    ],
)
def test_a_value_that_is_not_on_its_own_line_is_refused(text: str, keys: list[str]) -> None:
    edit = stack_edit.Edit((), "main", COMMIT, "main, 2026-11-29")
    with pytest.raises(errors.SettingsError, match="is not alone on one line"):
        stack_edit.edited(text, keys, edit, "stacks/Pulumi.test.yaml")


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("a: main", '"{}" # note'),
        ("a: main # why", '"{}" # why; note'),
        ("{{a: main, b: 'x # y'}}", "{{a: \"{}\", b: 'x # y'}} # note"),
        ("a:   'main'   ", '"{}" # note'),
    ],
)
def test_an_edit_adds_a_comment_to_the_line(line: str, after: str) -> None:
    edit = stack_edit.Edit((), "main", COMMIT, "note")
    text = stack_edit.edited(f"{line.format()}\n# next\n", ["a"], edit, "f")
    assert text.endswith(f"{after.format(COMMIT)}\n# next\n")


@pytest.mark.parametrize("stack", ["prod", "staging", "dev", "dr", "lab"])
def test_the_stacks_of_this_repository_name_nothing_that_moves(stack: str) -> None:
    assert pin.loose(stack_file.read(stack, ROOT), role_vars.load(ROOT / "roles"), stack) == []
