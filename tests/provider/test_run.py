"""A Serving's life with real Ansible runs and a model: a create that fails, an update that continues and fails since the model
sees wrongly, drift, delete. The role prints its API key, which must appear nowhere."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import engine_pb2

from fleet import probes
from fleet.ansible import converge
from fleet.drift import Difference
from fleet.managed import managed_set
from fleet.probes.answer import Answer
from fleet.provider import base, probing, serving
from fleet.provider.slots import Slots
from tests.support.fixed_model import Model
from tests.support.plugin import Engine, PartialState, Plugin, Props, doing, expect_error, partial_state, urn

KEY = "a-key-that-nobody-may-read-here"
SEEING = "\nAt <|begin_of_box|>[[89,298,223,786]]<|end_of_box|>."


@dataclass(frozen=True)
class Failure:
    """A request that failed, and everything that this machine showed meanwhile."""

    partial: PartialState
    message: str
    lines: list[engine_pb2.LogRequest]
    arguments: set[str]  # of every process


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.close()


@pytest.fixture(scope="module")
def inputs_of_serving(inputs: Props, model: Model) -> Props:
    """The inputs of a Serving with one replica, the model."""
    replica = {"name": "glm-0", "port": model.server_address[1], "model": "zai-org/GLM-4.6V-Flash"}
    probes = {"cases": ["bottle-grounding", "refuses-no-key"], "min_iou": 0.5}
    variables = {**inputs["vars"], "site_replicas": [replica]}
    return {**inputs, "vars": variables, "api_key": KEY, "probes": probes}


def watch_failure(engine: Engine, call: Callable[..., Any], *arguments: Any) -> Failure:
    """Make a request that must fail, and read the arguments of all processes until it does."""
    lines: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            lines.update(command_lines())

    watcher = threading.Thread(target=look)
    engine.lines.clear()
    watcher.start()
    try:
        error = expect_error(call, *arguments)
    finally:
        over.set()
        watcher.join()
    return Failure(partial_state(error), error.details(), list(engine.lines), lines)


@pytest.fixture(scope="module")
def failed(plugin: Plugin, shared_engine: Engine, inputs_of_serving: Props) -> Failure:
    """The create: its role fails after it has made a file."""
    return watch_failure(shared_engine, plugin.create, "Serving", doing(inputs_of_serving, "fail"))


@pytest.fixture(scope="module")
def refused(plugin: Plugin, shared_engine: Engine, inputs_of_serving: Props, failed: Failure, model: Model) -> Failure:
    """The update after it: its role succeeds, and the model answers without having seen."""
    model.words = "[[1,2,3,4]]"
    inputs = (doing(inputs_of_serving, "fail"), failed.partial.properties, inputs_of_serving)
    return watch_failure(shared_engine, plugin.update, "Serving", *inputs)


@pytest.fixture
def text(folder: Path, refused: Failure) -> Iterator[Path]:
    """The role's file; restored at the end."""
    path = folder / "text"
    yield path
    path.write_text("hello\n")
    path.chmod(0o644)


def command_lines() -> Iterator[str]:
    """Yield the arguments of every process of this machine."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def messages(failure: Failure, ephemeral: bool) -> list[str]:
    return [line.message for line in failure.lines if line.ephemeral is ephemeral]


def test_a_failed_create_ends_in_the_role_s_words(failed: Failure) -> None:
    assert failed.message == (
        "glm-1: site: Ensure it is whole: the thing is broken, and the key is (secret)\n"
        "  wanted: a whole thing\n"
        "  next:   mend it\n"
        f"          see {failed.partial.properties['log']}; `pulumi up` goes on where this stopped"
    )
    assert failed.partial.reasons == [failed.message]


def test_a_failed_create_keeps_its_files_in_its_state_so_that_delete_finds_them(
    failed: Failure, inputs_of_serving: Props
) -> None:
    assert failed.partial.id == "serving/glm-1"
    properties = failed.partial.properties
    assert {key: properties[key] for key in inputs_of_serving} == doing(inputs_of_serving, "fail")
    assert properties["managed"]["declared"] == {f"file {inputs_of_serving['vars']['site_dir']}/text": True}
    assert properties["drift"] == []


def test_a_run_reports_tasks_as_status_and_changes_as_lines_beside_the_resource(failed: Failure) -> None:
    assert "site: Ensure a line" in messages(failed, ephemeral=True)
    assert messages(failed, ephemeral=False) == ["site: Ensure a line: changed"]
    assert {line.urn for line in failed.lines} == {urn("Serving")}


def test_an_update_fails_with_the_answer_of_a_replica_that_does_not_see(refused: Failure, state: Path) -> None:
    assert refused.message == (
        "glm-1: probes: 1 of 2 passed: the vLLM server answers, and its answers are wrong\n"
        "    glm-0: bottle-grounding: answered twice '[[1,2,3,4]]' "
        "(box [1, 2, 3, 4] overlaps the red bottle [89, 298, 223, 786] by 0.00; wanted 0.5)\n"
        "  wanted: all probes passed\n"
        f"  next:   open {state}/evidence/test/glm-1-*.html; is it the right model and revision?"
    )


def test_the_update_continues_where_the_create_stopped(refused: Failure, inputs_of_serving: Props, state: Path) -> None:
    properties = refused.partial.properties
    assert {key: properties[key] for key in inputs_of_serving} == inputs_of_serving
    assert properties["replicas"] == inputs_of_serving["vars"]["site_replicas"]
    assert properties["verdict"] == {"passed": 1, "total": 2, "evidence": f"{state}/evidence/test"}
    assert list(properties["seconds"]) == ["site"]


def test_the_second_run_changes_nothing_and_keeps_the_files_of_the_first(
    refused: Failure, inputs_of_serving: Props
) -> None:
    path = f"file {inputs_of_serving['vars']['site_dir']}/text"
    assert messages(refused, ephemeral=False) == []
    assert refused.partial.properties["managed"]["declared"] == {path: True}
    assert refused.partial.properties["managed"]["expected"][path]["mode"] == "0644"


def test_a_run_reports_each_probe_as_it_starts(refused: Failure) -> None:
    assert [text for text in messages(refused, ephemeral=True) if text.startswith("probing")] == [
        "probing glm-0",
        "probing glm-0: bottle-grounding (1 of 2)",
        "probing glm-0: bottle-grounding (1 of 2), once more: "
        "box [1, 2, 3, 4] overlaps the red bottle [89, 298, 223, 786] by 0.00; wanted 0.5",
        "probing glm-0: refuses-no-key (2 of 2)",
    ]


def test_the_evidence_is_beside_the_logs(refused: Failure, state: Path) -> None:
    rows = json.loads((state / "evidence" / "test" / "glm-1-glm-0.json").read_text())
    assert [(row["case"], row["passed"]) for row in rows] == [("bottle-grounding", False), ("refuses-no-key", True)]
    assert "1 of 2 probes passed" in (state / "evidence" / "test" / "glm-1-glm-0.html").read_text()


def test_each_run_has_a_log_of_its_own_that_only_its_owner_reads(
    failed: Failure, refused: Failure, state: Path
) -> None:
    logs = [Path(failure.partial.properties["log"]) for failure in (failed, refused)]
    assert logs[0] != logs[1]
    for log in logs:
        assert log.parent == state / "logs"
        assert log.name.startswith("test-serving-glm-1-")
        assert log.stat().st_mode & 0o777 == 0o600
        assert "TASK [site : Ensure a line]" in log.read_text()


def test_the_key_reaches_the_model_and_appears_nowhere_else(
    failed: Failure, refused: Failure, model: Model, state: Path
) -> None:
    assert f"Bearer {KEY}" in model.keys
    files = [path.read_text(errors="replace") for path in state.rglob("*") if path.is_file()]
    for failure in (failed, refused):
        lines = [line.message for line in failure.lines]
        assert KEY not in "".join([*lines, failure.message, *failure.partial.reasons, *files])


def test_the_key_is_in_no_process_s_arguments(failed: Failure, refused: Failure) -> None:
    arguments = failed.arguments | refused.arguments
    for program in ("fleet.provider", "fleet.ansible.supervisor", "ansible-playbook", "HostKeyAlias=glm-1"):
        assert any(program in line for line in arguments), program
    assert not [line for line in arguments if KEY in line]


def ready(inputs_of_serving: Props, run_probes: probing.RunProbes) -> tuple[Props, list[str], list[str]]:
    """Apply a Serving in this process, with a run that succeeds; return its outputs, its notes and its warnings."""
    results = {"fleet_serving": {"replicas": inputs_of_serving["vars"]["site_replicas"]}}
    outcome = converge.Outcome(results, managed_set.Declared(), 0, 1, {"site": 1.0})
    notes, warnings = list[str](), list[str]()
    resource = serving.Serving(
        "Serving", ("replicas", "verdict"), Slots(), run=lambda *_: outcome, read=lambda *_: [{}], run_probes=run_probes
    )
    request = base.Request(
        urn("Serving"),
        lambda text, ephemeral: None if ephemeral else notes.append(text),
        threading.Event(),
        warnings.append,
    )
    return resource.apply(request, inputs_of_serving, None), notes, warnings


def test_a_replica_that_sees_is_ready(
    inputs_of_serving: Props, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SSH connection, the model and the probes are real."""
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    monkeypatch.setattr(model, "words", SEEING)
    outputs, notes, warnings = ready(inputs_of_serving, probing.run_probes)
    assert (outputs["verdict"]["passed"], outputs["verdict"]["total"]) == (2, 2)
    assert (notes, warnings) == (["2 of 2 probes passed"], [])


def test_an_advisory_probe_warns_and_one_that_passed_at_the_second_attempt_is_reported(
    inputs_of_serving: Props, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    thinks, sees = probes.load(["reasoning-apart", "bottle-grounding"])
    results = [
        probes.ProbeResult(thinks, Answer(200, "yes"), ["no reasoning"], 1.0),
        probes.ProbeResult(sees, Answer(200, "[[89,298,223,786]]"), [], 1.0, (Answer(200, "Where?"), ["no box"])),
    ]
    outputs, notes, warnings = ready(inputs_of_serving, lambda *_: results)
    assert (outputs["verdict"]["passed"], outputs["verdict"]["total"]) == (1, 1)
    assert warnings == [
        "advisory probe failed, the replica is ready: glm-0: reasoning-apart: answered 'yes' (no reasoning)"
    ]
    assert notes == [
        "passed at the second try: glm-0: bottle-grounding: answered '[[89,298,223,786]]'; at first 'Where?' (no box)",
        "1 of 1 probes passed",
    ]


def test_a_user_s_own_case_gates_a_replica(
    inputs_of_serving: Props, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    monkeypatch.setattr(model, "words", "Good day")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "greets.yaml").write_text("{about: It greets., question: Hello!, checks: [{words: [hello]}]}")
    own = {**inputs_of_serving, "probes": {"cases": ["greets"], "min_iou": 0.5, "extra": "own"}}
    with pytest.raises(base.InitFailed, match="glm-0: greets: answered twice 'Good day'"):
        ready(own, probing.run_probes)


def test_an_unchanged_host_has_no_drift(plugin: Plugin, inputs_of_serving: Props, refused: Failure) -> None:
    assert plugin.read("Serving", inputs_of_serving, refused.partial.properties) == refused.partial.properties


def test_a_change_by_hand_is_drift(plugin: Plugin, inputs_of_serving: Props, refused: Failure, text: Path) -> None:
    text.chmod(0o600)
    state = plugin.read("Serving", inputs_of_serving, refused.partial.properties)
    assert state["drift"] == [Difference("file", str(text), "mode", "0644", "0600").to_json()]
    assert {**state, "drift": []} == refused.partial.properties


def test_a_removal_by_hand_is_drift(plugin: Plugin, inputs_of_serving: Props, refused: Failure, text: Path) -> None:
    text.unlink()
    state = plugin.read("Serving", inputs_of_serving, refused.partial.properties)
    assert state["drift"] == [Difference("file", str(text), "present", True, False).to_json()]


@pytest.mark.usefixtures("text")
def test_a_delete_removes_the_role_s_files_and_nothing_else(plugin: Plugin, folder: Path, refused: Failure) -> None:
    theirs = folder / "theirs"
    theirs.touch()
    plugin.delete("Serving", refused.partial.properties)
    assert [*folder.iterdir()] == [theirs]
    theirs.unlink()
