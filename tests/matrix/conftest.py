"""One lab for the matrix, with a node a system, made for its first scenario."""

from collections.abc import Callable, Iterator

import pytest

from lab import machine
from tests.support import labs
from tests.support.matrix_node import MatrixNode


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """The site alone."""
    with labs.stand("glm-matrix", {}, tmp_path_factory.mktemp("matrix") / "keys") as lab:
        yield lab


@pytest.fixture(scope="session")
def node_of(lab: labs.Lab) -> Callable[[str], MatrixNode]:
    """Return a system's node: a bare one at first; a new one removes the previous one, to free its memory."""
    nodes: dict[str, MatrixNode] = {}

    def node(system: str) -> MatrixNode:
        if system not in nodes:
            for other in list(nodes):
                machine.remove(lab.name, nodes.pop(other).target.name)
            name = system.replace(".", "-")
            nodes[system] = MatrixNode(lab.name, labs.bare(lab.name, name, system, lab.folder), lab.vars)
        return nodes[system]

    return node
