"""One lab for the vendors' machines, with one node at a time."""

from collections.abc import Callable, Iterator

import pytest

from lab import machine as nodes
from lab.images import vendors
from tests.support import labs, vendor_table
from tests.support.matrix_node import MatrixNode


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """The site alone."""
    with labs.stand("glm-vendors", {}, tmp_path_factory.mktemp("vendors") / "keys") as standing:
        yield standing


@pytest.fixture
def make_node(lab: labs.Lab) -> Iterator[Callable[[vendor_table.Machine], MatrixNode]]:
    """Make a vendor's node; it goes with the test."""
    names: list[str] = []

    def make(one: vendor_table.Machine) -> MatrixNode:
        names.append(one.name)
        bed = MatrixNode(lab.name, labs.bare(lab.name, one.name, "ubuntu-24.04", lab.folder), {**lab.vars, **one.vars})
        vendors.apply(bed.target, one.name, lab.vars["rocm_repository_key"])
        bed.reboot()
        return bed

    yield make
    for name in names:
        nodes.remove(lab.name, name)
