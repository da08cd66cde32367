"""`fleet rollback`: which state it chooses, what it refuses, what it asks registry and nodes. Pulumi is a stand-in; tests/preview has the real one."""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import testing

from fleet import errors, ssh
from fleet.cli import main, rollback_costs
from fleet.stack import image_name, role_vars
from tests.support.programs import write_program
from tests.support.upstream_servers import Registry

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "cli_rollback"
VARS, NODES = "glm-fleet:vars", "glm-fleet:nodes"
REVISION, OLD_COMMIT = "ab" * 20, "cd" * 20


class World:
    """The stack file `prod` of this repository, its history, its registry and its nodes."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.registry, self.folder = registry, folder
        self.file = folder / "stacks" / "Pulumi.prod.yaml"
        self.file.parent.mkdir()
        text = (ROOT / "stacks" / "Pulumi.prod.yaml").read_text()
        self.file.write_text(
            text.replace("transformers_registry: registry.example", f"transformers_registry: {registry.name}")
        )
        self.config: dict[str, Any] = yaml.safe_load(self.file.read_text())["config"]
        self.updates: list[dict[str, Any]] = []
        self.history = folder / "history.json"
        self.history.write_text("[]")
        self.nodes: dict[str, bool | errors.FleetError] = {}
        node = {"name": "x", "address": "192.0.2.11", "port": 22, "host_key": "ssh-ed25519 A"}
        urn = "urn:pulumi:prod::glm-fleet::fleet:index:Node$fleet:index:Weights::{}"
        state = [
            {"urn": urn.format(name), "type": "fleet:index:Weights", "outputs": {"node": node}}
            for name in ("prod-1", "prod-2")
        ]
        (folder / "state.json").write_text(json.dumps({"deployment": {"resources": state}}))

    def add(self, settings: Mapping[str, Any], /, **more: Any) -> None:
        """Add an update to the history, older than those before."""
        day = 29 - len(self.updates)
        values = {
            key: {"objectValue": value} if isinstance(value, dict | list) else {"value": str(value)}
            for key, value in settings.items()
        }
        update = {
            "kind": "update",
            "result": "succeeded",
            "endTime": f"2026-11-{day}T10:00:00.000Z",
            "config": values,
            "environment": {},
        }
        self.updates.append({**update, **more})
        self.history.write_text(json.dumps(self.updates))

    def changed(self, **variables: Any) -> dict[str, Any]:
        """Return the configuration with other variables of the stack; None removes one."""
        config = copy.deepcopy(self.config)
        merged = {**config[VARS], **variables}
        config[VARS] = {name: value for name, value in merged.items() if value is not None}
        return config

    def readable(self, text: str) -> str:
        """Return a text without the registry's port and the recipe's hash, as the golden files have it."""
        return re.sub(r":(cd){6}-[0-9a-f]{12}", ":TAG", text.replace(self.registry.name, "registry.example"))

    def image(self, **variables: Any) -> str:
        """Return the name of the image that the builder has with these variables."""
        values = {**role_vars.load(ROOT / "roles").defaults, **self.config[VARS], **variables}
        return image_name.of(values, ROOT / "roles").removeprefix(f"{self.registry.name}/")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    registry = Registry(tmp_path)
    (tmp_path / "Pulumi.yaml").touch()
    (tmp_path / "bin").mkdir()
    answers = (
        'case "$1 $2" in',
        f'"stack history") cat {tmp_path}/history.json ;;',
        f'"stack export") cat {tmp_path}/state.json ;;',
        f'"preview --policy-pack") cp "$5" {tmp_path}/previewed; [ ! -e {tmp_path}/refused ] ;;',
        "*) exit 9 ;; esac",
    )
    write_program(tmp_path / "bin" / "pulumi", "\n".join(answers))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("SSL_CERT_FILE", str(registry.certificate))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLEET_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path, registry)

    def look(targets: Mapping[str, ssh.Target], folders: Mapping[str, str]) -> dict[str, bool | errors.FleetError]:
        return {name: world.nodes.get(name, True) for name in targets}

    monkeypatch.setattr(rollback_costs, "look", look)
    yield world
    registry.close()


def run(*words: str, code: int = 0) -> str:
    """Run `fleet rollback` on the stack `prod`; return its output."""
    result = testing.CliRunner().invoke(main.main, ["rollback", "-s", "prod", *words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def flags(world: World, **more: Any) -> dict[str, Any]:
    return {**world.config[VARS]["vllm_flags"], **more}


def test_the_newest_good_state_with_other_values_is_chosen_and_only_its_values_change(world: World) -> None:
    world.add(world.changed(vllm_flags=flags(world, **{"max-model-len": 1}), rocm_version="7.0"), result="failed")
    world.add(world.config)
    world.add(world.changed(vllm_flags=flags(world, **{"max-model-len": 8192}), rocm_version="7.1"))
    world.add(world.changed(vllm_flags=flags(world, **{"max-model-len": 4096})))
    before = world.file.read_text()
    assert world.readable(run("--yes")) == (GOLDEN / "flags.txt").read_text()
    assert world.file.read_text() == before.replace("max-model-len: 65536", "max-model-len: 8192")
    assert (world.folder / "previewed").read_text() == world.file.read_text()


def test_the_list_has_every_good_state_with_what_differs(world: World) -> None:
    world.add(world.config, environment={"git.head": "12" * 20})
    world.add(world.changed(transformers_commit=OLD_COMMIT, weights_revision=REVISION, vllm_memory="300g"))
    assert run("--list") == (GOLDEN / "list.txt").read_text()


@pytest.mark.parametrize(
    "more",
    [
        {"result": "failed"},
        {"result": "in-progress"},
        {"kind": "refresh"},
        {"kind": "destroy"},
        {"environment": {"pulumi.flag.target": "set"}},
        {"environment": {"pulumi.flag.exclude": "set"}},
        {"config": {VARS: {"secret": True}}},
    ],
)
def test_an_update_that_failed_or_was_partial_is_no_good_state(world: World, more: dict[str, Any]) -> None:
    world.add(world.changed(weights_revision=REVISION), **more)
    assert run("--yes", code=1) == (GOLDEN / "none.txt").read_text()


def test_good_states_with_the_values_of_the_file_are_nothing_to_go_back_to(world: World) -> None:
    world.add(world.config)
    world.add(world.changed(rocm_version="7.1"))
    assert run("--yes", code=1) == (GOLDEN / "the-same.txt").read_text()
    assert run("--to", "3", code=1) == (GOLDEN / "no-such-number.txt").read_text()


def test_an_image_that_is_gone_is_refused_and_with_build_it_is_said(world: World) -> None:
    world.add(world.changed(transformers_commit=OLD_COMMIT))
    before = world.file.read_text()
    refused = world.readable(run("--yes", code=1))
    assert refused == (GOLDEN / "image-gone.txt").read_text()
    assert world.file.read_text() == before and not (world.folder / "previewed").exists()
    assert "any more: prod-1 builds it again from registry.example/vllm" in world.readable(run("--yes", "--build"))


def test_an_image_that_the_registry_has_needs_no_word(world: World) -> None:
    world.add(world.changed(transformers_commit=OLD_COMMIT))
    world.registry.tags[world.image(transformers_commit=OLD_COMMIT)] = "sha256:" + "ab" * 32
    assert (
        "registry"
        not in run("--yes").partition("+    transformers_commit")[2].partition("\n")[2].partition("     transf")[0]
    )
    assert OLD_COMMIT in world.file.read_text()


def test_a_registry_that_does_not_answer_does_not_stop_the_way_back(world: World) -> None:
    world.add(world.changed(transformers_commit=OLD_COMMIT))
    world.registry.answer = 503
    output = world.readable(run("--yes"))
    assert "not known whether the registry still has registry.example/glm/serving:TAG:" in output
    assert "503 from the registry" in output


def test_weights_that_a_node_no_longer_has_are_refused_and_with_download_it_is_said(world: World) -> None:
    world.add(world.changed(weights_revision=REVISION))
    world.nodes = {"prod-2": False}
    assert run("--yes", code=1) == (GOLDEN / "weights-gone.txt").read_text()
    cost = "prod-2 does not have /srv/models/zai-org/GLM-4.6V/" + REVISION + " any more: fetched from"
    assert cost in run("--yes", "--download")


def test_a_node_that_does_not_answer_does_not_stop_the_way_back(world: World) -> None:
    world.add(world.changed(weights_revision=REVISION))
    world.nodes = {"prod-2": errors.Unreachable(node="prod-2", doing="connect", seen="no answer within 5 s")}
    assert "not known whether prod-2 still has /srv/models/" in run("--yes")


def test_a_preview_that_fails_leaves_the_file_unchanged(world: World) -> None:
    world.add(world.changed(vllm_memory="300g"))
    (world.folder / "refused").touch()
    before = world.file.read_text()
    assert run("--yes", code=1).endswith((GOLDEN / "preview-fails.txt").read_text())
    assert world.file.read_text() == before


def test_where_only_an_approved_report_changes_the_stack_the_next_step_is_a_review(world: World) -> None:
    world.add(world.changed(vllm_memory="300g"))
    text = world.file.read_text()
    world.file.write_text(
        text.replace("  glm-fleet:parallel:", "  glm-fleet:review: {signers: reviewers}\n  glm-fleet:parallel:")
    )
    assert run("--yes").endswith(
        "  next:   `fleet review -s prod --out FILE`; once it is signed, `fleet apply FILE` goes back, in turns\n"
    )


def test_a_machine_that_the_earlier_state_did_not_have_keeps_its_values(world: World) -> None:
    earlier = world.changed(vllm_memory="300g")
    del earlier[NODES]["machines"]["prod-4"]
    world.add(earlier)
    run("--yes")
    now = yaml.safe_load(world.file.read_text())["config"]
    assert now[NODES] == world.config[NODES] and now[VARS]["vllm_memory"] == "300g"


@pytest.mark.parametrize(
    "content", ["{}", '[{"kind": 1}]', '[{"kind": "update", "result": "succeeded", "endTime": "soon"}]']
)
def test_a_history_of_another_form_is_refused(world: World, content: str) -> None:
    world.history.write_text(content if content != "{}" else '{"a": 1}')
    assert "wanted: updates as `pulumi stack history --json` prints them" in run("--yes", code=1)
