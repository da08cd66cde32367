"""Everything is lost: new controller, all nodes installed again with new host keys. The commands of docs/recovery.md lead back to a verified endpoint.

A lab of its own: its containers, network and keys are removed, and the copy of the project that deployed it. Prints the seconds of each
command, and of each role on each node.
"""

import pathlib
import shutil
import time
from collections.abc import Iterator

import pytest

from lab import site
from tests.support import recovery_page
from tests.support.e2e import NODES, STACK, UP, Road
from tests.support.environment import expect_success

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(3 * UP)]
LAB = "glm-loss"
# The machines of the lab are the stack's own resources: they are installed again by the `up`, once the state knows that they are gone.
REINSTALL = "pulumi refresh --yes --skip-preview -s ENV --target '**lab:index:Site**' --target '**lab:index:Machine**'"


@pytest.fixture
def homes(tmp_path: pathlib.Path) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """The folders of the project before and after the loss; what is left of the lab is removed at the end."""
    homes = (tmp_path / "lost" / "glm-fleet", tmp_path / "new" / "glm-fleet")
    yield homes
    for home in homes:
        site.remove(LAB, keys(home))


def keys(home: pathlib.Path) -> pathlib.Path:
    """Return the folder of the lab's keys."""
    return home / ".pulumi" / "lab" / LAB


def deploy(home: pathlib.Path, kept: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path, dict[str, str]]:
    """Deploy the lab, and return a backup, the passphrase and the nodes' host keys."""
    road = Road(home, LAB)
    expect_success(road.run("bootstrap/stack.sh", STACK))
    expect_success(road.up())
    expect_success(road.run("bootstrap/backup.sh", STACK, str(kept)))
    shutil.copy(home / ".pulumi" / "passphrase", kept.parent / "passphrase")
    (backup,) = kept.iterdir()
    host_keys = {name: each["connection"]["host_key"] for name, each in road.outputs()["replicas"].items()}
    return backup, kept.parent / "passphrase", host_keys


def test_the_commands_of_the_page_lead_back_to_a_verified_endpoint(
    homes: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    lost, new = homes
    backup, passphrase, earlier = deploy(lost, tmp_path / "kept")
    site.remove(LAB, keys(lost))
    shutil.rmtree(lost)

    road = Road(new, LAB)
    (road.home / ".venv").unlink()  # a link to that of this checkout: the page's commands make one
    values = {"ENV": STACK, "BACKUP": str(backup), "PASSPHRASE": str(passphrase)}
    instead = {"git clone": "true", "git checkout": "true", "fleet enrol": REINSTALL}
    for command in recovery_page.commands(values, instead):
        began = time.monotonic()
        expect_success(road.run("bash", "-ec", command, timeout=UP))
        print(f"{time.monotonic() - began:6.0f} s  {command}")
    served = road.outputs()["replicas"]
    assert {*served} == {*NODES} and all(
        each["probes"]["passed"] == each["probes"]["total"] for each in served.values()
    )
    assert not {each["connection"]["host_key"] for each in served.values()} & {*earlier.values()}
    print({name: each["seconds"] for name, each in served.items()})
    expect_success(road.run("fleet", "probe", "-s", STACK, timeout=600))
