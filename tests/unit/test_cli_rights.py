"""`fleet rights`: what `fleet drain` needs besides is printed only when it is asked for."""

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


def printed(*options: str) -> tuple[str, dict[tuple[str, str], list[Any]]]:
    """Return the comment, and the rules by kind and namespace of each role."""
    run = testing.CliRunner().invoke(rights.command, ["-s", "prod", *options])
    assert run.exit_code == 0, run.output
    roles = [each for each in yaml.safe_load_all(run.output) if "rules" in each]
    comment = "".join(line for line in run.output.splitlines(keepends=True) if line.startswith("#"))
    return comment, {(each["kind"], each["metadata"].get("namespace", "")): each["rules"] for each in roles}


def test_a_drain_needs_a_patch_of_nodes_and_evictions_of_the_models_pods_and_nothing_else() -> None:
    comment, rules = printed()
    more_comment, more = printed("--drain")
    assert "`fleet drain` needs more, to cordon nodes and to evict pods: with --drain they are here, too." in comment
    assert "patch on nodes, with which an account may also change labels and taints of every node" in more_comment
    added = {place: [rule for rule in more[place] if rule not in rules[place]] for place in rules}
    assert added == {
        ("ClusterRole", ""): [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]}],
        ("Role", "glm"): [{"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}],
        ("Role", "glm-weights"): [],
    }
    assert all(rule in more[place] for place in rules for rule in rules[place])
