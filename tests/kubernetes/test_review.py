"""`fleet review` of a stack on a cluster, on a real API server: tests/kubernetes/golden/review has the texts.

The steps go on where the one before stopped. FLEET_GOLDEN=write writes the texts.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.review import report
from tests.support import api_server as support
from tests.support.api_server import ApiServer
from tests.support.cluster_project import Project
from tests.support.environment import expect_failure, expect_success
from tests.support.played_kubelet import Kubelet

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(600)]
GOLDEN = Path(__file__).parent / "golden" / "review"
SPACE = "review"
OWN = ((r"(effects|facts) [0-9a-f]{16}", r"\1 0123456789abcdef"), (r"about \d+ s", "about 9 s"))


@pytest.fixture(scope="module")
def project(gpu_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A stack that is not deployed. At the end nothing of it holds the server's GPUs."""
    kubelets = [Kubelet(gpu_server, name, lambda _: "ready") for name in (SPACE, f"{SPACE}-weights")]
    project = Project(tmp_path_factory.mktemp("review"), gpu_server, SPACE, release=("glm", "namespace"))
    yield project
    expect_success(project.change("destroy"))
    support.wait(lambda: not gpu_server.pods({"glm-fleet/model": "glm"}, SPACE), "its pods have ended")
    for each in kubelets:
        each.close()


def review(project: Project, verdict: str, *options: str) -> str:
    """Return the report as Markdown; it must have this verdict."""
    run = project.verb("review", *options)
    code = report.EXIT_CODES[verdict]
    return expect_failure(run, code) if code else expect_success(run)


def expect_golden(claim: str, text: str) -> None:
    """Compare a text, less what differs from run to run, with the golden one."""
    for own, stand_in in OWN:
        text = re.sub(own, stand_in, text)
    file = GOLDEN / f"{claim}.md"
    if os.environ.get("FLEET_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


def test_a_new_stack_is_safe_and_its_objects_are_listed(project: Project) -> None:
    text = review(project, report.SAFE)
    assert "**prod: safe: of 1 model 1 new**" in text
    assert "create Deployment review/glm\n" in text


def test_after_up_there_is_nothing_to_do(project: Project) -> None:
    expect_success(project.change("up"))
    expect_golden("nothing-to-do", review(project, report.NOTHING))


def test_a_flag_restarts_pods_and_the_capacity_is_in_the_first_line(project: Project) -> None:
    project.set('vars.vllm_flags["max-num-seqs"]', "8")
    expect_golden("a-flag", review(project, report.WINDOW))


def test_another_key_restarts_pods_and_its_secret_that_is_made_again_is_nothing_lost(project: Project) -> None:
    project.run("config", "set", "--secret", "vllm_api_key", "another-key-of-32-characters-0000", "-s", "prod")
    assert "delete `Secret" in review(project, report.WINDOW)


def test_a_namespace_that_goes_is_something_lost(project: Project) -> None:
    """The last test of the file: it previews another stack."""
    project.set("kubernetes.namespace", "elsewhere")
    assert "Namespace review" in review(project, report.DESTRUCTIVE).partition("<details>")[0]
