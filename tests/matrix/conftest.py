"""One lab for the matrix, with a node a system, made when the first scenario asks for it."""

from collections.abc import Callable, Iterator

import pytest

from lab import machine
from tests.support import labs
from tests.support.matrix_node import MatrixNode


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """The site alone."""
    with labs.stand("glm-matrix", {}, tmp_path_factory.mktemp("matrix") / "keys") as standing:
        yield standing


@pytest.fixture(scope="session")
def beds(lab: labs.Lab) -> Callable[[str], MatrixNode]:
    """Return a system's node: a bare one, the first time that it is asked for; the one before it goes, to free its memory."""
    standing: dict[str, MatrixNode] = {}

    def bed(system: str) -> MatrixNode:
        if system not in standing:
            for other in list(standing):
                machine.remove(lab.name, standing.pop(other).target.name)
            name = system.replace(".", "-")
            standing[system] = MatrixNode(lab.name, labs.bare(lab.name, name, system, lab.folder), lab.vars)
        return standing[system]

    return bed
