"""A node whose python3 rewrites what it prints, through the real Pulumi CLI: `up`, `preview --refresh` and `destroy` run nothing of it here.

Each output by itself: tests/provider/test_hostile.py. Each road of a run: tests/machine/test_hostile.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import hostile_python, inject
from tests.support.e2e import Road

pytestmark = pytest.mark.exhaustive

PATIENCE = "glm-fleet:nodes.machines.glm-1.vars.weights_patience"


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """A file that exists, at the end of the test, when something of the node's ran on the controller."""
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
    """Return the errors among a run's diagnostics; the engine's own last line is none of the fleet's."""
    return re.findall(
        r"(?m)^ {4}error: (?!(?:update|preview) failed$)(?:Preview failed: |1 error occurred:\s+\* )?(.*)",
        text.partition("\nDiagnostics:\n")[2],
    )


def test_every_verb_ends_in_one_message_and_the_next_up_converges(road: Road, hostile: None, trace: Path) -> None:
    preview = road.preview("--refresh")
    assert preview.returncode != 0, preview.stdout
    (message,) = errors(preview.stdout)
    assert message.startswith("glm-1: ") and "{{ lookup(" in message

    road.set(PATIENCE, "901")
    update = road.up()
    assert update.returncode != 0, update.stdout
    (message,) = errors(update.stdout)
    assert message.startswith("glm-1: ") and "{{ lookup(" in message

    weights = next(
        item["urn"]
        for item in road.resources()
        if item["type"] == "fleet:index:Weights" and item["urn"].endswith("::glm-1")
    )
    destroyed = road.pulumi("destroy", "--yes", "--skip-preview", "--target", weights, "--target-dependents")
    print(destroyed.stdout)
    assert "Traceback" not in destroyed.stdout
    assert [message[:7] for message in errors(destroyed.stdout)] == ["glm-1: "] * (destroyed.returncode != 0)
    assert "fleet:index:Serving glm-1 delet" in destroyed.stdout

    road.on("glm-1", hostile_python.REMOVE)
    road.remove(PATIENCE)
    inject.converges(road)
