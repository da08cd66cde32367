"""What several files of this folder share: a machine with a BMC."""

from collections.abc import Iterator

import pytest

from tests.support.redfish_machine import Machine, machine


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("bare")) as bare_machine:
        yield bare_machine
