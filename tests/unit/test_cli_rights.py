"""`fleet rights`: what `fleet drain` needs besides is printed apart, when it is asked for."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import testing

from fleet.cli import rights
from tests.support import cluster_stack


@pytest.fixture(autouse=True)
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack prod on a cluster, in the present folder."""
    (tmp_path / "Pulumi.yaml").touch()
    (tmp_path / "stacks").mkdir()
    config = {f"glm-fleet:{key}": value for key, value in cluster_stack.keys().items()}
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text(yaml.safe_dump({"config": config}))
    monkeypatch.chdir(tmp_path)


def printed(*options: str) -> tuple[str, list[Any]]:
    """Return the comment, and the documents."""
    run = testing.CliRunner().invoke(rights.command, ["-s", "prod", *options])
    assert run.exit_code == 0, run.output
    comment = "".join(line for line in run.output.splitlines(keepends=True) if line.startswith("#"))
    return comment, list(yaml.safe_load_all(run.output))


def rules(documents: list[Any]) -> dict[tuple[str, str], list[Any]]:
    """Return the rules by kind and namespace of each role."""
    roles = [each for each in documents if "rules" in each]
    return {(each["kind"], each["metadata"].get("namespace", "")): each["rules"] for each in roles}


def test_a_drain_needs_a_patch_of_nodes_and_evictions_of_the_models_pods_in_roles_of_their_own() -> None:
    comment, least = printed()
    assert "`fleet drain` needs more: --drain prints that." in comment
    comment, more = printed("--drain", "--group", "operators")
    assert "With that an account may also change labels and taints of every node" in comment
    assert rules(more) == {
        ("ClusterRole", ""): [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]}],
        ("Role", "glm"): [{"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}],
    }
    assert {each["metadata"]["name"] for each in more} == {"glm-fleet-prod-drain"}
    assert {each["metadata"]["name"] for each in least} == {"glm-fleet-prod"}
    assert [each["kind"] for each in more[2:]] == ["ClusterRoleBinding", "RoleBinding"]


def test_without_drain_nothing_may_patch_a_node_or_evict() -> None:
    _, documents = printed()
    for rule in itertools.chain(*rules(documents).values()):
        assert "pods/eviction" not in rule["resources"]
        assert "nodes" not in rule["resources"] or rule["verbs"] == ["get", "list"]
