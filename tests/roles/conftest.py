"""Fixtures of the role tests: two nodes for the whole session, and one run of each playbook there.

Every test only reads a run or the node, so their order does not matter.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import labs
from tests.support.role_node import SERVED, Place, Runs, place_of

NODES = {"ubuntu": "ubuntu-24.04", "debian": "debian-12"}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    with labs.stand("glm-roles", NODES, tmp_path_factory.mktemp("lab") / "keys") as lab:
        yield lab


# `make test` sets up a Debian 12 in tests/e2e (stacks/Pulumi.lab.yaml).
BARE = [
    pytest.param("ubuntu", id=NODES["ubuntu"]),
    pytest.param("debian", id=NODES["debian"], marks=pytest.mark.exhaustive),
]


@pytest.fixture(scope="session", params=BARE)
def place(request: pytest.FixtureRequest, lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place_of(lab, request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def ubuntu(lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place_of(lab, "ubuntu", tmp_path_factory)


@pytest.fixture(scope="module")
def jammy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An Ubuntu 22.04 in a lab of its own."""
    with labs.stand("glm-jammy", {"jammy": "ubuntu-22.04"}, tmp_path_factory.mktemp("lab") / "keys") as lab:
        yield place_of(lab, "jammy", tmp_path_factory)


@pytest.fixture(scope="session")
def debian(lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place_of(lab, "debian", tmp_path_factory)


HOST_FILES = [
    "/etc/default/grub.d/90-fleet.cfg",
    "/etc/apt/sources.list.d/rocm.sources",
    "/usr/bin/docker",
    "/dev/kfd",
    "/var/lib/fleet",
]
_runs: dict[tuple[str, str], Runs] = {}


@pytest.fixture
def once() -> Callable[[Place, str, Callable[[], Runs]], Runs]:
    """Make the runs of one playbook on one node, for the first test that needs them."""

    def make(place: Place, book: str, runs: Callable[[], Runs]) -> Runs:
        key = (place.node.name, book)
        if key not in _runs:
            _runs[key] = runs()
        return _runs[key]

    return make


@pytest.fixture
def hosted(place: Place, once: Callable[..., Runs]) -> Runs:
    """playbooks/host.yml on a bare node."""
    return once(place, "host", lambda: place.four("host", HOST_FILES))


@pytest.fixture
def ready(ubuntu: Place, once: Callable[..., Runs]) -> Place:
    """The Ubuntu node with kernel, Docker daemon and driver."""
    assert once(ubuntu, "host", lambda: ubuntu.four("host", HOST_FILES)).second.rc == 0
    return ubuntu


@pytest.fixture
def built(ready: Place, once: Callable[..., Runs]) -> Runs:
    """playbooks/image.yml on the Ubuntu node."""
    return once(ready, "image", lambda: ready.four("image", ["/var/lib/fleet/transformers"], **SERVED))


@pytest.fixture
def fetched(ready: Place, once: Callable[..., Runs]) -> Runs:
    """playbooks/weights.yml on the Ubuntu node."""
    return once(
        ready, "weights", lambda: ready.four("weights", ["/srv/models", "/usr/local/lib/fleet/fetch-weights"], **SERVED)
    )


@pytest.fixture
def served(ready: Place, built: Runs, fetched: Runs, once: Callable[..., Runs]) -> Runs:
    """playbooks/serving.yml on the Ubuntu node, with the results of image and weights."""
    results = {
        "vllm_image": built.second.results["fleet_image"]["image"],
        "vllm_model_dir": fetched.second.results["fleet_weights"]["path"],
        "vllm_model_manifest": fetched.second.results["fleet_weights"]["manifest"],
    }
    return once(ready, "serving", lambda: ready.four("serving", ["/etc/fleet/vllm"], **SERVED, **results))


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait until a condition holds. Raises AssertionError after some seconds."""

    def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds:g} s"
            time.sleep(0.5)

    return wait
