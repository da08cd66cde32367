"""Weights from neighbours in the program: which machines share them, whom each knows, and that others get nothing of it."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.program import sharing
from tests.support.program_mocks import Declared, config, run

ON = {"weights_from_neighbours": True}


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """Restore the handler of SIGINT, which the program replaces."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def prod(gateway: bool = True, machine: dict[str, Any] | None = None, **variables: Any) -> Declared:
    """Return the declarations of the stack prod with these variables, and those of its second machine."""
    values = config("prod")
    values["glm-fleet:vars"] |= variables
    machines = values["glm-fleet:nodes"]["machines"]
    machines["prod-2"] |= {
        "internal_address": "10.0.0.12",
        "vars": {**machines["prod-2"].get("vars", {}), **(machine or {})},
    }
    if not gateway:
        for key in ("glm-fleet:gateway", "glm-fleet:clients"):
            values.pop(key, None)
    return run("prod", values)


def shared(declared: Declared) -> dict[str, list[str]]:
    """Return the names that each machine knows, of those that share."""
    return {
        name: [place["name"] for place in inputs["neighbours"]]
        for name in declared.names("Weights")
        if "neighbours" in (inputs := declared.inputs["Weights", name])
    }


def test_every_machine_knows_those_with_the_same_weights_and_itself() -> None:
    declared = prod(**ON)
    names = declared.names("Weights")
    assert shared(declared) == {name: sorted(names) for name in names}
    inputs = declared.inputs["Weights", "prod-2"]
    assert inputs["vars"]["weights_address"] == "10.0.0.12" and inputs["vars"]["weights_name"] == "prod-2"
    assert {"name": "prod-2", "address": "10.0.0.12", "port": 8445, "first": True} in inputs["neighbours"]
    assert inputs["authority"] and inputs["authority_key"]


@pytest.mark.parametrize("case", [{}, {**ON, "gateway": False}, {"weights_from_neighbours": False}])
def test_without_the_setting_or_a_gateway_nothing_is_declared_of_it(case: dict[str, Any]) -> None:
    declared = prod(**case)
    for name in declared.names("Weights"):
        inputs = declared.inputs["Weights", name]
        assert not {"neighbours", "authority", "authority_key"} & inputs.keys()
        assert not {"weights_name", "weights_address"} & inputs["vars"].keys()


@pytest.mark.parametrize("machine", [{"weights_revision": "0" * 40}, {"weights_from_neighbours": False}])
def test_a_machine_with_another_revision_or_the_setting_off_is_nobodys_neighbour(machine: dict[str, Any]) -> None:
    declared = prod(machine=machine, **ON)
    assert "prod-2" not in shared(declared)
    assert all("prod-2" not in known for known in shared(declared).values())


def test_a_large_fleet_has_the_same_first_nodes_and_a_bounded_number_of_neighbours() -> None:
    names = [f"n{number:03}" for number in range(100)]
    known = {name: sharing.known(names, name) for name in names}
    assert all(name in one and len(one) <= 17 for name, one in known.items())
    assert {tuple(other for other, first in one.items() if first) for one in known.values()} == {tuple(names[:8])}
    assert all(sum(name in one for one in known.values()) >= 9 for name in names)  # each is known to others, too
