"""`fleet verify`: what it reads from the state, what it prints, how it ends. No machine is needed: a test gives the answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click import testing

from fleet import errors
from fleet.cli import main, verify
from fleet.managed import verify_weights as machine
from tests.support.programs import put_pulumi_on_path

GOLDEN = Path(__file__).parent / "golden" / "cli_verify"
PATH = "/srv/models/zai-org/GLM-4.6V/" + "ab" * 20


def state() -> dict[str, Any]:
    """Return a stack as `pulumi stack export` prints it; of its machines prod-2 has no weights."""

    def resource(kind: str, node: str, **outputs: Any) -> dict[str, Any]:
        urn = f"urn:pulumi:prod::glm-fleet::fleet:index:Node$fleet:index:{kind}::{node}"
        connection = {"name": node, "address": "192.0.2.11", "port": 22, "host_key": "ssh-ed25519 A"}
        return {"urn": urn, "type": f"fleet:index:{kind}", "outputs": {"node": connection, **outputs}}

    record = {f"file {PATH}/manifest.json": {"type": "file", "sha256": "cd" * 32}}
    replica = {"unit glm-0.service": {"state": "active"}, "container glm-0": {"image_id": "sha256:ef"}}
    resources = [
        {"urn": "urn:pulumi:prod::glm-fleet::pulumi:pulumi:Stack::glm-fleet-prod", "type": "pulumi:pulumi:Stack"},
        resource("Weights", "prod-3", path=PATH, managed={"declared": {}, "expected": record}),
        resource("Weights", "prod-1", path=PATH, managed={"declared": {}, "expected": record}),
        resource("Serving", "prod-1", managed={"declared": {}, "expected": replica}),
        resource("Weights", "prod-2", path=None, managed={"declared": {}, "expected": {}}),
        {**resource("Weights", "prod-1", path="/old"), "delete": True},
    ]
    return {"version": 3, "deployment": {"resources": resources}}


@pytest.fixture
def state_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the state that a stand-in `pulumi` exports."""
    return put_pulumi_on_path(tmp_path, state(), monkeypatch)


WRONG = [
    {"what": "model-00007.safetensors", "expected": f"sha256 {'1' * 64}", "seen": f"sha256 {'2' * 64}"},
    {"what": "container glm-0", "expected": "image sha256:ef", "seen": "absent"},
]
RIGHT = machine.Comparison(47, 212_300_000_000, [])
Answers = dict[str, machine.Comparison | errors.FleetError]


@pytest.fixture
def machines(state_file: Path, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """The answer of each machine by name; a machine without one has the right weights."""
    answers: Answers = {}

    def compare(weights: machine.RecordedWeights, progress: Callable[[int, int], None]) -> machine.Comparison:
        answer = answers.get(weights.target.name, RIGHT)
        if isinstance(answer, errors.FleetError):
            raise answer
        return answer

    monkeypatch.setattr(machine, "verify", compare)
    return answers


def run(*arguments: str) -> testing.Result:
    return testing.CliRunner().invoke(main.main, ["verify", "-s", "prod", *arguments])


def test_a_node_should_have_the_weights_and_containers_of_its_last_run() -> None:
    by_kind = {
        kind: {
            item["urn"].rpartition("::")[2]: item["outputs"]
            for item in state()["deployment"]["resources"]
            if item["type"] == f"fleet:index:{kind}" and "delete" not in item
        }
        for kind in ("Weights", "Serving")
    }
    first, second = verify.recorded(by_kind["Weights"], by_kind["Serving"], ())
    assert (first.target.name, first.manifest) == ("prod-1", f"{PATH}/manifest.json")
    assert (first.recorded, first.containers) == ("cd" * 32, {"glm-0": "sha256:ef"})
    assert (second.target.name, second.containers) == ("prod-3", {})


def test_nodes_as_recorded_give_a_table_and_exit_code_0(machines: Answers) -> None:
    result = run()
    assert (result.exit_code, result.output) == (0, (GOLDEN / "right.txt").read_text())


def test_a_difference_has_the_recorded_value_and_the_way_to_repair_it(machines: Answers) -> None:
    machines["prod-1"] = machine.Comparison(47, 212_300_000_000, WRONG)
    machines["prod-3"] = errors.Unreachable(
        node="prod-3", doing="connect to root@192.0.2.11:22", seen="no answer", next="ssh root@192.0.2.11 true"
    )
    result = run()
    assert (result.exit_code, result.output) == (1, (GOLDEN / "wrong.txt").read_text())


def test_a_node_that_does_not_answer_gives_exit_code_2(machines: Answers) -> None:
    machines["prod-3"] = errors.Unreachable(node="prod-3", doing="connect", seen="no answer")
    assert run().exit_code == 2
    assert run("prod-1").exit_code == 0


def every(error: type[errors.FleetError]) -> list[type[errors.FleetError]]:
    """Return a FleetError and all that derive from it, without the error of a stack file."""
    subclasses = [kind for below in error.__subclasses__() for kind in every(below)]
    return [error, *(kind for kind in subclasses if kind is not errors.SettingsError)]


@pytest.mark.parametrize("error", every(errors.FleetError), ids=lambda error: str(error.__name__))
def test_the_failure_of_a_node_ends_the_work_on_no_other(machines: Answers, error: type[errors.FleetError]) -> None:
    machines["prod-1"] = error(node="prod-1", seen="it broke")
    first, second = verify.verify_stack("prod", (), lambda line: None)
    assert (first.node, first.error, first.files) == ("prod-1", "prod-1: it broke", 0)
    assert (second.node, second.error, second.files) == ("prod-3", "", 47)


def test_json_has_every_part_of_the_report(machines: Answers) -> None:
    machines["prod-3"] = machine.Comparison(1, 2, WRONG)
    first, second = json.loads(run("--json").stdout)
    size = {"files": 47, "bytes": 212_300_000_000}
    assert first == {"node": "prod-1", "path": PATH, **size, "wrong": [], "error": ""}
    assert (second["node"], second["wrong"]) == ("prod-3", WRONG)


@pytest.mark.parametrize("name", ["prod-2", "prod-9"])
def test_a_node_without_verified_weights_is_refused_with_the_names_of_the_others(machines: Answers, name: str) -> None:
    result = run(name)
    assert result.exit_code == 2
    assert f"{name}: verify: the stack's state has no verified weights of it\n  wanted: prod-1, prod-3" in result.output


def test_a_stack_that_is_not_up_is_refused(state_file: Path) -> None:
    state_file.write_text('{"deployment": {}}')
    result = run()
    assert result.exit_code == 2
    assert "a stack that is up" in result.output


@pytest.mark.parametrize(
    ("progress", "seconds", "line"),
    [
        ({"prod-1": (0, 0)}, 10, "0.0 MB of 0.0 MB, 0.0 MB/s, nothing yet of prod-1"),
        (
            {f"prod-{n}": (0, 0) for n in range(1, 6)} | {"prod-6": (10**9, 10**9)},
            10,
            "1.0 GB of 1.0 GB, 100.0 MB/s, nothing yet of prod-1, prod-2, prod-3 and 2 more",
        ),
        (
            {"prod-1": (50 * 10**9, 10**11), "prod-2": (20 * 10**9, 10**11)},
            100,
            "70.0 GB of 200.0 GB, 700.0 MB/s, about 7 min left on prod-2",
        ),
        ({"prod-1": (90 * 10**9, 10**11)}, 90, "90.0 GB of 100.0 GB, 1.0 GB/s, about 10 s left on prod-1"),
        ({"prod-1": (10**9, 10**9)}, 90, "1.0 GB of 1.0 GB, 11.1 MB/s, about 0 s left on prod-1"),
    ],
)
def test_progress_is_one_line_for_all_nodes(progress: dict[str, tuple[int, int]], seconds: float, line: str) -> None:
    assert verify.progress_line(progress, seconds) == line


def test_progress_is_printed_while_a_node_works(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    def compare(weights: machine.RecordedWeights, progress: Callable[[int, int], None]) -> machine.Comparison:
        progress(10**9, 4 * 10**9)
        while not any("of 4.0 GB" in line for line in lines):
            pass
        return RIGHT

    monkeypatch.setattr(machine, "verify", compare)
    weights = {"prod-1": state()["deployment"]["resources"][2]["outputs"]}
    (report,) = verify.verify(verify.recorded(weights, {}, ()), lines.append, every=0.01)
    assert report.error == ""


def test_an_interrupt_ends_the_work_on_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """^C arrives in the thread that waits; each node's thread notices at its next line."""
    cancelled: list[str] = []

    def compare(weights: machine.RecordedWeights, progress: Callable[[int, int], None]) -> machine.Comparison:
        try:
            while True:
                progress(1, 2)
        except errors.Cancelled:
            cancelled.append(weights.target.name)
            raise

    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "verify", compare)
    weights = {name: state()["deployment"]["resources"][2]["outputs"] for name in ("prod-1", "prod-3")}
    with pytest.raises(KeyboardInterrupt):
        verify.verify(verify.recorded(weights, {}, ()), interrupt, every=0.01)
    assert sorted(cancelled) == ["prod-1", "prod-3"]
