"""A node whose python3 rewrites its output, with the real Pulumi CLI: `up`, `preview --refresh` and `destroy` run nothing of it here.

tests/provider/test_hostile.py has each output alone, tests/machine/test_hostile.py each operation alone.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import hostile_python, inject
from tests.support.e2e import Road
from tests.support.environment import expect_failure

pytestmark = pytest.mark.exhaustive

PATIENCE = "glm-fleet:nodes.machines.glm-1.vars.weights_patience"


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """A file that exists, at the end of the test, if the controller ran something of the node's."""
    trace = tmp_path / "run-on-the-controller"
    yield trace
    assert not trace.exists()


@pytest.fixture
def hostile(road: Road, first_up: str, trace: Path) -> Iterator[None]:
    """glm-1 puts an expression into every path below /srv/models that it prints."""
    road.on("glm-1", hostile_python.plant(f"s|/srv/models|/srv/{hostile_python.expression(trace)}/models|g"))
    yield
    road.on("glm-1", hostile_python.REMOVE)


def errors(text: str) -> list[str]:
    """Return the errors among a run's diagnostics, without the Pulumi engine's own last line."""
    return re.findall(
        r"(?m)^ {4}error: (?!(?:update|preview) failed$)(?:Preview failed: |1 error occurred:\s+\* )?(.*)",
        text.partition("\nDiagnostics:\n")[2],
    )


def test_every_verb_ends_in_one_message_and_the_next_up_converges(road: Road, hostile: None, trace: Path) -> None:
    preview = expect_failure(road.preview("--refresh"))
    road.set(PATIENCE, "901")
    update = expect_failure(road.up())
    for output in (preview, update):
        (message,) = errors(output)
        assert message.startswith("glm-1: ") and "{{ lookup(" in message, output
    urns = [item["urn"] for item in road.resources() if item["type"] == "fleet:index:Weights"]
    weights = next(urn for urn in urns if urn.endswith("::glm-1"))
    destroy = road.destroy("--target", weights, "--target-dependents")
    print(destroy.stdout)
    assert "Traceback" not in destroy.stdout
    assert [message[:7] for message in errors(destroy.stdout)] == ["glm-1: "] * (destroy.returncode != 0)
    assert "fleet:index:Serving glm-1 delet" in destroy.stdout
    road.on("glm-1", hostile_python.REMOVE)
    road.remove(PATIENCE)
    inject.converges(road)
