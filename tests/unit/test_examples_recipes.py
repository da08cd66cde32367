"""The recipes' gate with pull requests of this test's own: what of a commit is taken into a trusted checkout, and who may write what."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WORKFLOWS = sorted((EXAMPLES / "github").iterdir())
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def script(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(EXAMPLES / name), *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of the trusted branch, one commit ahead of where pull requests began."""
    folder = tmp_path / "trusted"
    (folder / "stacks").mkdir(parents=True)
    for name in ("stacks/Pulumi.prod.yaml", "stacks/old.yaml", "program.py", "stacks.py"):
        (folder / name).write_text("trusted\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "begin")
    git(folder, "branch", "begin")
    (folder / "program.py").write_text("trusted, newer\n")
    git(folder, "commit", "-qam", "go on")
    return folder


def propose(folder: Path, name: str, text: str | None, link: str = "") -> str:
    """Return the commit of a pull request that writes one file, removes it, or makes it a link."""
    git(folder, "checkout", "-q", "begin")
    file = folder / name
    file.unlink(missing_ok=True)
    if link:
        file.symlink_to(link)
    elif text is not None:
        file.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "propose")
    commit = git(folder, "rev-parse", "HEAD")
    git(folder, "checkout", "-q", "main")
    return commit


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("stacks/Pulumi.prod.yaml", "fleet-review"),
        ("program.py", "fleet-review-program"),
        ("stacks.py", "fleet-review-program"),
        ("Pulumi.yaml", "fleet-review-program"),
    ],
)
def test_a_program_that_differs_waits_for_its_reader(checkout: Path, name: str, environment: str) -> None:
    commit = propose(checkout, name, "proposed\n")
    assert script(checkout, "scope.sh", commit).stdout.strip() == environment


def test_of_an_unread_commit_only_its_stack_files_are_taken(checkout: Path) -> None:
    commit = propose(checkout, "program.py", "hostile\n")
    git(checkout, "checkout", "-q", "-B", "begin", commit)
    git(checkout, "checkout", "-q", "main")
    commit = propose(checkout, "stacks/Pulumi.prod.yaml", "proposed\n")
    assert script(checkout, "take.sh", commit, "fleet-review").returncode == 0
    assert (checkout / "stacks/Pulumi.prod.yaml").read_text() == "proposed\n"
    assert (checkout / "program.py").read_text() == "trusted, newer\n"


def test_a_stack_file_that_is_removed_is_not_reviewed_with_the_old_one(checkout: Path) -> None:
    commit = propose(checkout, "stacks/old.yaml", None)
    assert script(checkout, "take.sh", commit, "fleet-review").returncode == 0
    assert not (checkout / "stacks/old.yaml").exists()


@pytest.mark.parametrize("environment", ["fleet-review", "fleet-review-program"])
def test_a_link_among_the_stack_files_is_refused(checkout: Path, environment: str) -> None:
    commit = propose(checkout, "stacks/Pulumi.prod.yaml", None, link="/proc/self/environ")
    answer = script(checkout, "take.sh", commit, environment)
    assert answer.returncode == 1 and "no plain file" in answer.stderr
    assert (checkout / "stacks/Pulumi.prod.yaml").read_text() == "trusted\n"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_an_action_is_pinned_by_its_commit(file: Path) -> None:
    assert all(re.search(r"@[0-9a-f]{40} # v\d", line) for line in file.read_text().splitlines() if "uses:" in line)


def test_no_job_of_a_pull_request_has_a_secret_and_may_write() -> None:
    workflow: dict[str, Any] = yaml.safe_load((EXAMPLES / "github" / "fleet-review.yml").read_text())
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        writes = "write" in job["permissions"].values()
        assert not (writes and "secrets." in str(job)), name
        assert ("environment" in job) == ("secrets." in str(job)), name
        refs = [step["with"]["ref"] for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert refs == ["${{ github.event.pull_request.base.sha }}"], name
