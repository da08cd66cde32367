"""bootstrap/stack.sh makes a key for the lab's own client, once, and again where it is lost. Needs `pulumi` on PATH."""

import hashlib
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.e2e import copy_project
from tests.support.environment import expect_success, forget_secrets, user_environment


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("lab") / "glm-fleet"
    copy_project(home)
    forget_secrets(home)
    return home


def prepare(project: Path, stack: str = "lab") -> str:
    run = subprocess.run(
        ["bootstrap/stack.sh", stack], cwd=project, env=user_environment(project), capture_output=True, text=True
    )
    return expect_success(run)


def digest(project: Path) -> str:
    """Return the SHA-256 of the lab's client in the stack file."""
    config = yaml.safe_load((project / "stacks" / "Pulumi.lab.yaml").read_text())["config"]
    assert [*config["glm-fleet:clients"]] == ["lab"]
    return str(config["glm-fleet:clients"]["lab"]["sha256"])


def test_the_lab_gets_a_client_whose_key_only_its_user_reads(project: Path) -> None:
    output, key = prepare(project), project / ".pulumi" / "lab" / "lab.key"
    assert "made the key of the client lab" in output
    assert hashlib.sha256(key.read_text().strip().encode()).hexdigest() == digest(project)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().strip() not in output


def test_a_second_run_keeps_the_key(project: Path) -> None:
    before = digest(project)
    assert "ready: lab" in prepare(project) and digest(project) == before


def test_a_lost_key_is_made_again(project: Path) -> None:
    before = digest(project)
    (project / ".pulumi" / "lab" / "lab.key").unlink()
    prepare(project)
    assert digest(project) != before


def test_another_stack_gets_no_client(project: Path) -> None:
    prepare(project, "prod")
    assert "glm-fleet:clients" not in (project / "stacks" / "Pulumi.prod.yaml").read_text()
    assert [path.name for path in (project / ".pulumi" / "lab").iterdir()] == ["lab.key"]
