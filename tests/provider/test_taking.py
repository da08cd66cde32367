"""A Node that is made: its machine is looked at before anything is touched, then marked as the stack's; a delete takes the mark off.

The machine is the SSH server of this process, which says of itself what a bare MI300X machine says, and keeps its marks in a folder of its own.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fleet.managed import owner
from fleet.stack import requirements, stack_file
from tests.support.plugin import Engine, Plugin, Props
from tests.support.preflight_machines import ROLES, ROOT, SICK, healthy
from tests.support.ssh_server import KEPT, Server

GOLDEN = Path(__file__).parent / "golden" / "taking"
OURS = "organization/glm-fleet/test"
TOLD = requirements.of_machine(stack_file.read("prod", ROOT), ROLES, "prod-1", OURS)
WANTS = json.dumps(TOLD)
THEIRS = {"id": "organization/glm-fleet/staging", "who": "ops@console", "since": "2026-10-01T12:00:00Z"}


class Machine:
    """The machine as a test wants it: `facts` are what it says of itself, `mark` is what says whose it is."""

    def __init__(self, server: Server) -> None:
        self.facts = healthy()
        self.mark = server.kept / "owner.json"
        server.look = self._look

    def sick(self, *claims: str) -> None:
        for claim in claims:
            SICK[claim][0](self.facts)

    def belongs_to(self, text: str) -> None:
        self.mark.parent.mkdir(exist_ok=True)
        self.mark.write_text(text)

    def _look(self) -> str:
        there = self.mark.read_text() if self.mark.exists() else ""
        return json.dumps({**self.facts, "time": time.time(), "owner": there})


@pytest.fixture
def machine(server: Server) -> Iterator[Machine]:
    """A machine that is right and that nobody has."""
    yield Machine(server)
    shutil.rmtree(server.kept, ignore_errors=True)


def refused(plugin: Plugin, inputs: Props) -> str:
    """Return the message in which a create ends."""
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create("Node", inputs)
    assert not caught.value.trailing_metadata()  # nothing is there to be saved
    return f"{re.sub('-p [0-9]+', '-p PORT', caught.value.details())}\n"


def said(engine: Engine) -> list[str]:
    """Return the lines that stay."""
    return [line.message for line in engine.lines if not line.ephemeral]


def waived(expires: str, *names: str) -> str:
    waivers = {name: {"reason": "ticket 4711", "expires": expires} for name in names}
    return json.dumps({**TOLD, "waivers": waivers})


def test_a_right_machine_is_marked_and_nothing_is_said_that_stays(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    made = plugin.create("Node", {**connection, "wants": WANTS})
    assert made["wants"] == WANTS
    assert [(line.message, line.ephemeral) for line in engine.lines] == [("runs the preflight checks", True)]
    mark = json.loads(machine.mark.read_text())
    assert {key: mark[key] for key in ("stack", "project", "id")} == {
        "stack": "test",
        "project": "glm-fleet",
        "id": OURS,
    }
    assert re.fullmatch(r"[^@]+@[^@]+", mark["who"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", mark["since"])
    assert (machine.mark.stat().st_mode & 0o777, machine.mark.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert [file.name for file in machine.mark.parent.iterdir()] == ["owner.json"]


@pytest.mark.parametrize(
    ("claim", "sick"),
    [("one-fault", ["secure-boot"]), ("three-faults", ["too-few-gpus", "secure-boot", "an-orchestrator", "a-lock"])],
)
def test_a_machine_that_cannot_become_it_is_left_alone_and_told_in_one_message(
    plugin: Plugin, machine: Machine, connection: Props, claim: str, sick: list[str]
) -> None:
    machine.sick(*sick)
    assert refused(plugin, {**connection, "wants": WANTS}) == (GOLDEN / f"{claim}.txt").read_text()
    assert not machine.mark.parent.exists()


def test_a_warning_is_told_and_stops_nothing(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    machine.sick("little-memory")
    plugin.create("Node", {**connection, "wants": WANTS})
    assert said(engine) == [(GOLDEN / "a-warning.txt").read_text().rstrip()]
    assert machine.mark.exists()


def test_a_fault_that_the_stack_waives_is_told_as_such_and_stops_nothing(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    machine.sick("secure-boot")
    plugin.create("Node", {**connection, "wants": waived("2999-12-31", "preflight-secure-boot", "preflight-space")})
    assert said(engine) == [(GOLDEN / "a-waived-fault.txt").read_text().rstrip()]
    assert machine.mark.exists()


def test_a_waiver_whose_last_day_is_over_counts_no_more_and_is_told(
    plugin: Plugin, machine: Machine, connection: Props
) -> None:
    machine.sick("secure-boot")
    told = refused(plugin, {**connection, "wants": waived("2026-01-31", "preflight-secure-boot")})
    assert told == (GOLDEN / "an-expired-waiver.txt").read_text()


@pytest.mark.parametrize(
    ("claim", "mark", "become"),
    [
        ("of-another-stack", json.dumps(THEIRS), False),
        ("of-another-stack-through-sudo", json.dumps(THEIRS), True),
        ("of-nobody-who-is-named", "??", False),
    ],
)
def test_a_machine_of_another_stack_is_left_alone_and_whose_it_is_is_told(
    plugin: Plugin,
    machine: Machine,
    connection: Props,
    claim: str,
    mark: str,
    become: bool,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sudo = tmp_path / "sudo"  # of the machine, which is this process
    sudo.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    machine.belongs_to(mark)
    earlier = len(server.commands)
    told = refused(plugin, {**connection, "become": become, "wants": WANTS})
    assert {command.startswith("sudo -n -- ") for command in server.commands[earlier:]} == {become}
    assert told == (GOLDEN / f"{claim}.txt").read_text()
    assert machine.mark.read_text() == mark


def test_of_two_stacks_that_look_at_once_the_second_is_refused(
    plugin: Plugin, machine: Machine, connection: Props, server: Server
) -> None:
    """The look of the second was before the mark of the first."""
    machine.belongs_to(json.dumps(THEIRS))
    server.look = lambda: json.dumps({**machine.facts, "time": time.time()})
    assert refused(plugin, {**connection, "wants": WANTS}) == (GOLDEN / "meanwhile.txt").read_text()
    assert json.loads(machine.mark.read_text()) == THEIRS


def test_a_machine_that_is_ours_already_stays_ours_since_then(
    plugin: Plugin, machine: Machine, connection: Props
) -> None:
    """A state that was lost, a create that broke off at its end."""
    mark = json.dumps({**THEIRS, "id": OURS})
    machine.belongs_to(mark)
    plugin.create("Node", {**connection, "wants": WANTS})
    assert machine.mark.read_text() == mark


@pytest.mark.parametrize(
    ("before", "looks"),
    [
        ({}, 0),
        ({"user": "admin"}, 0),
        ({"address": "192.0.2.4"}, 1),
        ({"host_key": "ssh-rsa A"}, 1),
        ({"install": "two"}, 1),
    ],
)
def test_only_a_create_and_another_machine_are_looked_at(
    plugin: Plugin, machine: Machine, connection: Props, server: Server, before: dict[str, Any], looks: int
) -> None:
    olds, news = {**connection, **before, "wants": json.dumps({**TOLD, "gpus": 4})}, {**connection, "wants": WANTS}
    earlier = server.looks
    made = plugin.update("Node", olds, {**olds, "connection": connection, "facts": {}}, news)
    assert (server.looks - earlier, machine.mark.exists()) == (looks, bool(looks))
    assert made["wants"] == WANTS


@pytest.mark.parametrize("kept", [True, False], ids=["its state names the stack", "a state of an earlier release"])
def test_a_delete_takes_off_the_mark_and_the_folder_that_came_with_it(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props, kept: bool
) -> None:
    made = plugin.create("Node", {**connection, "wants": WANTS})
    engine.lines.clear()
    plugin.delete("Node", made if kept else {key: made[key] for key in made if key != "wants"})
    assert not machine.mark.parent.exists()
    assert said(engine) == []


def test_a_delete_of_a_machine_without_a_mark_does_and_says_nothing(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    plugin.delete("Node", {**connection, "wants": WANTS})
    assert (said(engine), machine.mark.parent.exists()) == ([], False)


def test_a_delete_leaves_the_mark_of_another_stack(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    machine.belongs_to(json.dumps(THEIRS))
    plugin.delete("Node", {**connection, "wants": WANTS})
    assert json.loads(machine.mark.read_text()) == THEIRS
    assert said(engine) == [f"remains: {owner.MARKER}, of organization/glm-fleet/staging"]


def test_a_delete_of_a_machine_that_is_gone_ends_well_and_says_what_may_be_left(
    plugin: Plugin, engine: Engine, connection: Props
) -> None:
    """What else stood there was taken off before it, or the state was told to forget it."""
    plugin.delete("Node", {**connection, "port": 1, "wants": WANTS})
    assert said(engine) == [f"remains: {owner.MARKER}, the machine is not reachable: connection refused"]


def test_no_test_marks_this_machine() -> None:
    assert Path(owner.MARKER).is_relative_to(KEPT)
