"""A create of a Node runs the preflight before it touches the machine, then marks the machine as the stack's; a delete removes the mark.

The machine is the SSH server of this process, with the facts of a bare MI300X machine and a folder of its own for marks.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.managed import owner
from fleet.stack import requirements, stack_file
from tests.support.plugin import Engine, Plugin, Props, expect_error
from tests.support.preflight_machines import FAULTS, ROLES, ROOT, healthy
from tests.support.programs import write_program
from tests.support.ssh_server import KEPT, Server

GOLDEN = Path(__file__).parent / "golden" / "taking"
OURS = "organization/glm-fleet/test"
PROD = requirements.of_machine(stack_file.read("prod", ROOT), ROLES, "prod-1", OURS)
WANTS = json.dumps(PROD)
THEIRS = {"id": "organization/glm-fleet/staging", "who": "ops@console", "since": "2026-10-01T12:00:00Z"}


class Machine:
    """The machine: `facts` are its answer to the preflight, `mark` is the file with its owner."""

    def __init__(self, server: Server) -> None:
        self.facts = healthy()
        self.mark = server.kept / "owner.json"
        server.look = self._look

    def sick(self, *claims: str) -> None:
        for claim in claims:
            FAULTS[claim][0](self.facts)

    def belongs_to(self, text: str) -> None:
        self.mark.parent.mkdir(exist_ok=True)
        self.mark.write_text(text)

    def _look(self) -> str:
        owner = self.mark.read_text() if self.mark.exists() else ""
        return json.dumps({**self.facts, "time": time.time(), "owner": owner})


@pytest.fixture
def machine(server: Server) -> Iterator[Machine]:
    """A healthy machine without an owner."""
    yield Machine(server)
    shutil.rmtree(server.kept, ignore_errors=True)


def failed_create(plugin: Plugin, inputs: Props) -> str:
    """Return the message of a create that must fail."""
    error = expect_error(plugin.create, "Node", inputs)
    assert not error.trailing_metadata()  # no state to save
    return f"{re.sub('-p [0-9]+', '-p PORT', error.details())}\n"


def lasting_lines(engine: Engine) -> list[str]:
    """Return the lines that stay."""
    return [line.message for line in engine.lines if not line.ephemeral]


def waived(expires: str, *names: str) -> str:
    waivers = {name: {"reason": "ticket 4711", "expires": expires} for name in names}
    return json.dumps({**PROD, "waivers": waivers})


def test_a_create_marks_a_healthy_machine_without_a_lasting_line(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    outputs = plugin.create("Node", {**connection, "wants": WANTS})
    assert outputs["wants"] == WANTS
    assert [(line.message, line.ephemeral) for line in engine.lines] == [("runs the preflight checks", True)]
    mark = json.loads(machine.mark.read_text())
    assert (mark["stack"], mark["project"], mark["id"]) == ("test", "glm-fleet", OURS)
    assert re.fullmatch(r"[^@]+@[^@]+", mark["who"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", mark["since"])
    assert (machine.mark.stat().st_mode & 0o777, machine.mark.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert [file.name for file in machine.mark.parent.iterdir()] == ["owner.json"]


@pytest.mark.parametrize(
    ("claim", "sick"),
    [("one-fault", ["secure-boot"]), ("three-faults", ["too-few-gpus", "secure-boot", "an-orchestrator", "a-lock"])],
)
def test_a_create_reports_all_faults_of_a_machine_in_one_message_and_touches_nothing(
    plugin: Plugin, machine: Machine, connection: Props, claim: str, sick: list[str]
) -> None:
    machine.sick(*sick)
    assert failed_create(plugin, {**connection, "wants": WANTS}) == (GOLDEN / f"{claim}.txt").read_text()
    assert not machine.mark.parent.exists()


def test_a_warning_is_reported_and_stops_nothing(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    machine.sick("little-memory")
    plugin.create("Node", {**connection, "wants": WANTS})
    assert lasting_lines(engine) == [(GOLDEN / "a-warning.txt").read_text().rstrip()]
    assert machine.mark.exists()


def test_a_waived_fault_is_reported_as_waived_and_stops_nothing(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    machine.sick("secure-boot")
    plugin.create("Node", {**connection, "wants": waived("2999-12-31", "preflight-secure-boot", "preflight-space")})
    assert lasting_lines(engine) == [(GOLDEN / "a-waived-fault.txt").read_text().rstrip()]
    assert machine.mark.exists()


def test_an_expired_waiver_is_reported_and_does_not_count(plugin: Plugin, machine: Machine, connection: Props) -> None:
    machine.sick("secure-boot")
    message = failed_create(plugin, {**connection, "wants": waived("2026-01-31", "preflight-secure-boot")})
    assert message == (GOLDEN / "an-expired-waiver.txt").read_text()


@pytest.mark.parametrize(
    ("claim", "mark", "become"),
    [
        ("of-another-stack", json.dumps(THEIRS), False),
        ("of-another-stack-through-sudo", json.dumps(THEIRS), True),
        ("of-nobody-who-is-named", "??", False),
    ],
)
def test_a_create_names_the_owner_of_a_machine_of_another_stack_and_touches_nothing(
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
    write_program(tmp_path / "sudo", 'shift 2\nexec "$@"')  # of the machine, which is this process
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    machine.belongs_to(mark)
    earlier = len(server.commands)
    message = failed_create(plugin, {**connection, "become": become, "wants": WANTS})
    assert {command.startswith("sudo -n -- ") for command in server.commands[earlier:]} == {become}
    assert message == (GOLDEN / f"{claim}.txt").read_text()
    assert machine.mark.read_text() == mark


def test_the_second_of_two_simultaneous_creates_fails(
    plugin: Plugin, machine: Machine, connection: Props, server: Server
) -> None:
    """The second one's preflight ended before the first one's mark."""
    machine.belongs_to(json.dumps(THEIRS))
    server.look = lambda: json.dumps({**machine.facts, "time": time.time()})
    assert failed_create(plugin, {**connection, "wants": WANTS}) == (GOLDEN / "meanwhile.txt").read_text()
    assert json.loads(machine.mark.read_text()) == THEIRS


def test_a_create_keeps_its_own_stack_s_mark(plugin: Plugin, machine: Machine, connection: Props) -> None:
    """After the loss of a state, or a create that broke off at its end."""
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
def test_an_update_runs_the_preflight_only_on_another_machine(
    plugin: Plugin, machine: Machine, connection: Props, server: Server, before: dict[str, Any], looks: int
) -> None:
    olds, news = {**connection, **before, "wants": json.dumps({**PROD, "gpus": 4})}, {**connection, "wants": WANTS}
    earlier = server.looks
    outputs = plugin.update("Node", olds, {**olds, "connection": connection, "facts": {}}, news)
    assert (server.looks - earlier, machine.mark.exists()) == (looks, bool(looks))
    assert outputs["wants"] == WANTS


@pytest.mark.parametrize("named", [True, False], ids=["its state names the stack", "a state of an earlier release"])
def test_a_delete_removes_the_mark_and_its_folder(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props, named: bool
) -> None:
    outputs = plugin.create("Node", {**connection, "wants": WANTS})
    engine.lines.clear()
    plugin.delete("Node", outputs if named else {key: outputs[key] for key in outputs if key != "wants"})
    assert not machine.mark.parent.exists()
    assert lasting_lines(engine) == []


def test_a_delete_of_a_machine_without_a_mark_does_and_reports_nothing(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    plugin.delete("Node", {**connection, "wants": WANTS})
    assert (lasting_lines(engine), machine.mark.parent.exists()) == ([], False)


def test_a_delete_leaves_the_mark_of_another_stack(
    plugin: Plugin, engine: Engine, machine: Machine, connection: Props
) -> None:
    machine.belongs_to(json.dumps(THEIRS))
    plugin.delete("Node", {**connection, "wants": WANTS})
    assert json.loads(machine.mark.read_text()) == THEIRS
    assert lasting_lines(engine) == [f"remains: {owner.MARKER}, of organization/glm-fleet/staging"]


def test_a_delete_of_an_unreachable_machine_succeeds_and_reports_what_may_be_left(
    plugin: Plugin, engine: Engine, connection: Props
) -> None:
    """Earlier deletes removed the rest, or the user removed it from the state."""
    plugin.delete("Node", {**connection, "port": 1, "wants": WANTS})
    assert lasting_lines(engine) == [f"remains: {owner.MARKER}, the machine is not reachable: connection refused"]


def test_no_test_marks_this_machine() -> None:
    assert Path(owner.MARKER).is_relative_to(KEPT)
