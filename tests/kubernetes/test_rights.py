"""Claims about `fleet rights`: a real API server gives what it prints and no more, and with that the whole road runs."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fleet.cli import rights as verb
from tests.support import cluster_stack
from tests.support.api_server import ApiServer
from tests.support.cluster_project import Project
from tests.support.environment import expect_failure, expect_success
from tests.support.played_kubelet import Kubelet

SPACE, ACCOUNT, OPERATOR, WITHOUT = "least", "deployer", "operator", "without"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
Right = tuple[str, str, str, str]  # verb, group, resource, name


@pytest.fixture(scope="module")
def project(gpu_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A stack whose context is of an account without a right of its own."""
    gpu_server.add_account(ACCOUNT, "default", [])
    kubelets = [Kubelet(gpu_server, name) for name in (SPACE, f"{SPACE}-weights")]
    folder = tmp_path_factory.mktemp("least")
    yield Project(folder, gpu_server, SPACE, ACCOUNT, release=("glm", "namespace"))
    for each in kubelets:
        each.close()


def printed(folder: Path, monkeypatch: pytest.MonkeyPatch, account: str, *options: str) -> list[dict[str, Any]]:
    monkeypatch.chdir(folder)
    run = CliRunner().invoke(verb.command, ["-s", "prod", "--account", f"default/{account}", *options])
    assert run.exit_code == 0, run.output
    return list(yaml.safe_load_all(run.output))


def expand(rules: list[dict[str, Any]]) -> set[Right]:
    """Return each single right of rules."""
    parts = ("verbs", "apiGroups", "resources")
    return {
        right
        for rule in rules
        for right in itertools.product(*(rule.get(part) or [""] for part in parts), rule.get("resourceNames") or [""])
    }


def given(server: ApiServer, context: str, namespace: str) -> set[Right]:
    review = server.request("POST", REVIEWS, {"spec": {"namespace": namespace}}, context=context)
    assert not review["status"]["incomplete"]
    return expand(review["status"]["resourceRules"])


@pytest.mark.parametrize(("account", "options"), [(ACCOUNT, ()), (OPERATOR, ("--drain",))], ids=["least", "drain"])
def test_a_server_gives_an_account_what_is_printed_for_it_and_no_more(
    api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: str, options: tuple[str, ...]
) -> None:
    (tmp_path / "Pulumi.yaml").touch()
    (tmp_path / "stacks").mkdir()
    keys = cluster_stack.keys(namespace=SPACE).items()
    config = {"config": {f"glm-fleet:{key}": value for key, value in keys}}
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text(yaml.safe_dump(config))
    for name in (account, WITHOUT):
        api_server.add_account(name, "default", [])
    spaces = (SPACE, f"{SPACE}-weights")
    for space in spaces:
        api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    documents = printed(tmp_path, monkeypatch, account, *options)
    api_server.apply(*documents)
    rules = {each["metadata"].get("namespace"): expand(each["rules"]) for each in documents if "rules" in each}
    for space in spaces:
        own = given(api_server, account, space) - given(api_server, WITHOUT, space)
        assert own == rules[None] | rules.get(space, set())


@pytest.mark.exhaustive  # the server's own review, above, has every right
@pytest.mark.needs("pulumi")
@pytest.mark.timeout(600)
def test_the_road_runs_with_the_rights_that_are_printed(
    project: Project, gpu_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = expect_failure(project.change("preview"))
    assert "the rights that `fleet rights` prints" in seen
    seen = expect_failure(project.verb("preflight"), 1)
    assert "this account may not:" in seen
    assert re.search(r"^deployer +GPU nodes +ERROR", seen, re.M)
    documents = printed(project.folder, monkeypatch, ACCOUNT)
    gpu_server.apply(*(each for each in documents if each["kind"].startswith("Cluster")))
    assert "the rights that `fleet rights` prints" in expect_failure(project.change("up"))
    gpu_server.apply(*documents)  # the namespaces are there now
    seen = expect_success(project.verb("preflight", "--all"))
    assert re.search(r"^deployer +GPU nodes +ok +2 nodes with 16 GPUs$", seen, re.M)
    assert re.search(r"^deployer +namespaces +ok +least is its own, least-weights is its own$", seen, re.M)
    assert re.search(r"^deployer +rights +ok +all that `fleet rights` prints$", seen, re.M)
    judged = "18 objects were judged, and not their pods, which this account may not create"
    assert re.search(rf"^deployer +admission +ok +{judged}$", seen, re.M)
    assert "26 of 26 probes passed" in expect_success(project.change("up"))
    assert "23 unchanged" in expect_success(project.change("up", "--refresh", "--expect-no-changes"))
    expect_success(project.change("destroy"))
