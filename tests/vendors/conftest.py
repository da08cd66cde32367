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
    with labs.stand("glm-vendors", {}, tmp_path_factory.mktemp("vendors") / "keys") as lab:
        yield lab


@pytest.fixture
def make_node(lab: labs.Lab) -> Iterator[Callable[[vendor_table.Machine], MatrixNode]]:
    """Make a vendor's node; the end of the test removes it."""
    names: list[str] = []

    def make(row: vendor_table.Machine) -> MatrixNode:
        names.append(row.name)
        target = labs.bare(lab.name, row.name, "ubuntu-24.04", lab.folder)
        node = MatrixNode(lab.name, target, {**lab.vars, **row.vars})
        vendors.apply(target, row.name, lab.vars["rocm_repository_key"])
        node.reboot()
        return node

    yield make
    for name in names:
        nodes.remove(lab.name, name)
