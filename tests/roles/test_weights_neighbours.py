"""Claims about weights from neighbours (role weights): three nodes of three systems, empty at first, in a lab of their own.

Each test goes on where the one before it stopped.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab import site
from tests.support import gateway_pki, labs, playbook
from tests.support.role_node import SERVED, Place, place_of

pytestmark = pytest.mark.exhaustive
NODES = {"noble": "ubuntu-24.04", "bookworm": "debian-12", "jammy": "ubuntu-22.04"}
MODEL = f"/srv/models/{SERVED['weights_repository']}"
SHARD = "model.safetensors"
UNIT = "fleet-weights.service"


class Fleet:
    """The nodes by name, and the authority of their certificates."""

    def __init__(self, lab: labs.Lab, places: dict[str, Place]) -> None:
        self.lab, self.places, self.authority = lab, places, gateway_pki.authority()
        variables = next(iter(places.values())).vars
        self.revision, self.files = variables["weights_revision"], variables["weights_manifest"]
        self.pems = {
            name: {
                "WEIGHTS_AUTHORITY": self.authority.pem,
                "WEIGHTS_SERVER_PEM": self.authority.sign("fleet-weights", gateway_pki.SERVER, name),
                "WEIGHTS_CLIENT_PEM": self.authority.sign("fleet-weights", gateway_pki.CLIENT),
            }
            for name in places
        }

    def run(self, name: str, **more: Any) -> playbook.Run:
        """Run the role on one node, as the program would."""
        known = [
            {"name": other, "address": place.node.address, "port": 8445, "first": True}
            for other, place in self.places.items()
        ]
        own = {"weights_name": name, "weights_address": self.places[name].node.address, "weights_neighbours": known}
        return self.places[name].run("weights", self.pems[name], **{**SERVED, **own, **more})

    def together(self) -> dict[str, playbook.Run]:
        """Run the role on all nodes at once."""
        with ThreadPoolExecutor() as pool:
            return dict(zip(self.places, pool.map(self.run, self.places), strict=True))

    def last_fetch(self, name: str) -> str:
        """Return what the newest fetch on a node has printed."""
        return self.places[name].sh("journalctl --quiet --output=cat --unit='fleet-fetch-*' --lines=60")

    def forget(self, name: str) -> None:
        """Remove the model from a node."""
        self.places[name].sh(f"rm -rf {MODEL}/{self.revision} {MODEL}/.chunks-{self.revision}")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with labs.stand("glm-sharing", NODES, tmp_path_factory.mktemp("lab") / "keys") as lab:
        yield Fleet(lab, {name: place_of(lab, name, tmp_path_factory) for name in NODES})


@pytest.fixture
def hub(fleet: Fleet) -> Iterator[Callable[..., None]]:
    """Switch faults of the hub on; the end of the test switches them off."""
    yield lambda **faults: site.set_faults(fleet.lab.name, {"hub": faults})
    site.set_faults(fleet.lab.name, {})


def right(fleet: Fleet, name: str) -> None:
    for file in site.CHECKPOINT.iterdir():
        if file.name in fleet.files:
            wanted = hashlib.sha256(file.read_bytes()).hexdigest()
            seen = fleet.places[name].sh(f"sha256sum {MODEL}/{fleet.revision}/{file.name}").split()[0]
            assert seen == wanted, f"{name}: {file.name}"


def test_a_check_on_a_bare_node_reports_what_would_happen_and_makes_nothing(fleet: Fleet) -> None:
    place = fleet.places["jammy"]
    run = fleet.run("jammy", check=True)
    assert run.rc == 0, run.message
    assert place.sh(f"ls -d /etc/fleet/weights /etc/systemd/system/{UNIT} 2>/dev/null || true") == ""


def test_empty_nodes_that_start_at_once_take_one_copy_from_the_hub(fleet: Fleet) -> None:
    for name, run in fleet.together().items():
        assert run.rc == 0, f"{name}: {run.message}"
        right(fleet, name)
    from_hub = [
        float(text) for name in NODES for text in re.findall(r"([\d.]+) MB from the hub", fleet.last_fetch(name))
    ]
    model = sum(int(fleet.places["noble"].sh(f"stat -c %s {MODEL}/{fleet.revision}/{file}")) for file in fleet.files)
    assert len(from_hub) == 3 and sum(from_hub) <= 1.05 * model / 1e6 + 0.3


def test_a_second_run_changes_nothing(fleet: Fleet) -> None:
    assert {name: run.changed for name, run in fleet.together().items()} == {name: [] for name in NODES}


def test_the_source_is_no_root_and_listens_on_the_internal_address_alone(fleet: Fleet) -> None:
    for place in fleet.places.values():
        for pid in place.sh("pgrep --exact nginx").split():
            status = dict(line.split(":\t", 1) for line in place.sh(f"cat /proc/{pid}/status").splitlines())
            assert "0" not in status["Uid"].split() and status["NoNewPrivs"] == "1"
            assert {int(status[field], 16) for field in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")} == {0}
        assert place.sh("ss -Hltn 'sport = :8445' | awk '{print $4}'").split() == [f"{place.node.address}:8445"]
        assert place.sh("ss -Hltn 'sport = :80'") == ""
        assert place.sh("systemctl is-enabled nginx.service || true").strip() != "enabled"


def test_a_node_takes_everything_from_its_neighbours_though_the_hub_lies(
    fleet: Fleet, hub: Callable[..., None]
) -> None:
    fleet.forget("noble")
    hub(flip=SHARD)
    run = fleet.run("noble")
    assert run.rc == 0, run.message
    right(fleet, "noble")
    assert " 0.0 MB from the hub" in fleet.last_fetch("noble")


def test_a_neighbour_with_a_damaged_file_is_named_and_the_others_serve(fleet: Fleet) -> None:
    shard = f"{MODEL}/{fleet.revision}/{SHARD}"
    debian = fleet.places["bookworm"]
    debian.sh(
        f"touch -r {shard} /root/then; printf x | dd of={shard} bs=1 seek=100 conv=notrunc status=none; touch -r /root/then {shard}"
    )
    fleet.places["jammy"].sh(f"systemctl stop {UNIT}")  # so that the damaged one is asked first
    fleet.forget("noble")
    run = fleet.run("noble")
    assert run.rc == 0, run.message
    right(fleet, "noble")
    assert f"bookworm is dropped: {SHARD}: chunk 0 is not what its list says" in fleet.last_fetch("noble")
    debian.sh(f"rm {shard}")
    assert fleet.run("jammy").rc == 0 and fleet.run("bookworm").rc == 0
    right(fleet, "bookworm")


def test_a_changed_limit_reloads_the_source_and_restarts_nothing(fleet: Fleet) -> None:
    place = fleet.places["noble"]
    pid = place.sh(f"systemctl show --property=MainPID --value {UNIT}")
    run = fleet.run("noble", weights_megabytes_per_second=500)
    assert run.rc == 0, run.message
    assert place.sh(f"systemctl show --property=MainPID --value {UNIT}") == pid
    assert "limit_rate 31250000;" in place.sh("cat /etc/fleet/weights/nginx.conf")


def test_a_machine_that_no_longer_shares_has_no_source(fleet: Fleet) -> None:
    place = fleet.places["noble"]
    run = place.run("weights", **SERVED)
    assert run.rc == 0, run.message
    assert place.sh(f"ls -d /etc/fleet/weights /etc/systemd/system/{UNIT} 2>/dev/null || true") == ""
    assert place.sh("ss -Hltn 'sport = :8445'") == ""
    assert place.run("weights", **SERVED).changed == []
