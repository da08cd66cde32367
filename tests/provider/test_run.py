"""A Serving's life with real Ansible runs and a model behind it: a create that fails, an update that goes on and is refused
for what the model sees, drift, delete. Its API key is given away by the role, and must be read nowhere."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from pulumi.runtime.proto import engine_pb2

from fleet import probes
from fleet.ansible import converge
from fleet.drift import Difference
from fleet.managed import managed_set
from fleet.probes.answer import Answer
from fleet.provider import base, serving
from fleet.provider.slots import Slots
from tests.support.fixed_model import Model
from tests.support.plugin import Engine, HalfMade, Plugin, Props, doing, half_made, urn

KEY = "a-key-that-nobody-may-read-here"
SEEING = "\nAt <|begin_of_box|>[[89,298,223,786]]<|end_of_box|>."


@dataclass(frozen=True)
class Ended:
    """A request that failed, and everything that could be read on this machine meanwhile."""

    half: HalfMade
    message: str
    lines: list[engine_pb2.LogRequest]
    arguments: set[str]  # of every process


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.close()


@pytest.fixture(scope="module")
def served(inputs: Props, model: Model) -> Props:
    """The inputs of a Serving with one replica, which is the model."""
    replica = {"name": "glm-0", "port": model.server_address[1], "model": "zai-org/GLM-4.6V-Flash"}
    probes = {"cases": ["bottle-grounding", "refuses-no-key"], "min_iou": 0.5}
    variables = {**inputs["vars"], "site_replicas": [replica]}
    return {**inputs, "vars": variables, "api_key": KEY, "probes": probes}


@contextlib.contextmanager
def watched(engine: Engine) -> Iterator[list[Ended]]:
    """Expect the request to fail, and look at all processes of the machine until it does."""
    arguments: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            arguments.update(command_lines())

    watcher = threading.Thread(target=look)
    engine.lines.clear()
    ended: list[Ended] = []
    watcher.start()
    try:
        with pytest.raises(grpc.RpcError) as caught:
            yield ended
    finally:
        over.set()
        watcher.join()
    ended.append(Ended(half_made(caught.value), caught.value.details(), list(engine.lines), arguments))


@pytest.fixture(scope="module")
def failed(plugin: Plugin, shared_engine: Engine, served: Props) -> Ended:
    """The create: its role fails after it has made a file."""
    with watched(shared_engine) as ended:
        plugin.create("Serving", doing(served, "fail"))
    return ended[0]


@pytest.fixture(scope="module")
def refused(plugin: Plugin, shared_engine: Engine, served: Props, failed: Ended, model: Model) -> Ended:
    """The update after it: its role ends well, and the model answers without having seen."""
    model.words = "[[1,2,3,4]]"
    with watched(shared_engine) as ended:
        plugin.update("Serving", doing(served, "fail"), failed.half.properties, served)
    return ended[0]


@pytest.fixture
def text(folder: Path, refused: Ended) -> Iterator[Path]:
    """The file that the role has made; put right again at the end."""
    path = folder / "text"
    yield path
    path.write_text("hello\n")
    path.chmod(0o644)


def command_lines() -> Iterator[str]:
    """Yield the arguments of every process of this machine."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def told(ended: Ended, ephemeral: bool) -> list[str]:
    return [line.message for line in ended.lines if line.ephemeral is ephemeral]


def test_a_failed_create_ends_in_the_role_s_words(failed: Ended) -> None:
    assert failed.message == (
        "glm-1: site: Ensure it is whole: the thing is broken, and the key is (secret)\n"
        "  wanted: a whole thing\n"
        "  next:   mend it\n"
        f"          see {failed.half.properties['log']}; `pulumi up` goes on where this stopped"
    )
    assert failed.half.reasons == [failed.message]


def test_a_failed_create_keeps_what_it_has_made_so_that_delete_finds_it(failed: Ended, served: Props) -> None:
    assert failed.half.id == "serving/glm-1"
    properties = failed.half.properties
    assert {key: properties[key] for key in served} == doing(served, "fail")
    assert properties["managed"]["declared"] == {f"file {served['vars']['site_dir']}/text": True}
    assert properties["drift"] == []


def test_tasks_are_told_as_status_and_changes_as_lines_beside_the_resource(failed: Ended) -> None:
    assert "site: Ensure a line" in told(failed, ephemeral=True)
    assert told(failed, ephemeral=False) == ["site: Ensure a line: changed"]
    assert {line.urn for line in failed.lines} == {urn("Serving")}


def test_a_replica_that_answers_and_does_not_see_is_refused_with_its_answer(refused: Ended, state: Path) -> None:
    assert refused.message == (
        "glm-1: probes: 1 of 2 passed: the vLLM server answers, and its answers are wrong\n"
        "    glm-0: bottle-grounding: answered twice '[[1,2,3,4]]' "
        "(box [1, 2, 3, 4] overlaps the red bottle [89, 298, 223, 786] by 0.00; wanted 0.5)\n"
        "  wanted: all probes passed\n"
        f"  next:   open {state}/evidence/test/glm-1-*.html; is it the right model and revision?"
    )


def test_the_update_went_on_where_the_create_stopped(refused: Ended, served: Props, state: Path) -> None:
    properties = refused.half.properties
    assert {key: properties[key] for key in served} == served
    assert properties["replicas"] == served["vars"]["site_replicas"]
    assert properties["verdict"] == {"passed": 1, "total": 2, "evidence": f"{state}/evidence/test"}
    assert list(properties["seconds"]) == ["site"]


def test_the_second_run_changed_nothing_and_what_the_first_had_made_stays_ours(refused: Ended, served: Props) -> None:
    path = f"file {served['vars']['site_dir']}/text"
    assert told(refused, ephemeral=False) == []
    assert refused.half.properties["managed"]["declared"] == {path: True}
    assert refused.half.properties["managed"]["expected"][path]["mode"] == "0644"


def test_the_probes_are_told_as_they_are_asked(refused: Ended) -> None:
    assert [text for text in told(refused, ephemeral=True) if text.startswith("probing")] == [
        "probing glm-0",
        "probing glm-0: bottle-grounding (1 of 2)",
        "probing glm-0: bottle-grounding (1 of 2), once more: "
        "box [1, 2, 3, 4] overlaps the red bottle [89, 298, 223, 786] by 0.00; wanted 0.5",
        "probing glm-0: refuses-no-key (2 of 2)",
    ]


def test_the_evidence_is_kept_beside_the_logs(refused: Ended, state: Path) -> None:
    rows = json.loads((state / "evidence" / "test" / "glm-1-glm-0.json").read_text())
    assert [(row["case"], row["passed"]) for row in rows] == [("bottle-grounding", False), ("refuses-no-key", True)]
    assert "1 of 2 probes passed" in (state / "evidence" / "test" / "glm-1-glm-0.html").read_text()


def test_each_run_has_a_log_of_its_own_that_only_its_owner_reads(failed: Ended, refused: Ended, state: Path) -> None:
    logs = [Path(ended.half.properties["log"]) for ended in (failed, refused)]
    assert logs[0] != logs[1]
    for log in logs:
        assert log.parent == state / "logs"
        assert log.name.startswith("test-serving-glm-1-")
        assert log.stat().st_mode & 0o777 == 0o600
        assert "TASK [site : Ensure a line]" in log.read_text()


def test_the_key_reaches_the_model_and_is_told_nowhere(
    failed: Ended, refused: Ended, model: Model, state: Path
) -> None:
    assert f"Bearer {KEY}" in model.keys
    written = [path.read_text(errors="replace") for path in state.rglob("*") if path.is_file()]
    for ended in (failed, refused):
        said = [line.message for line in ended.lines]
        assert KEY not in "".join([*said, ended.message, *ended.half.reasons, *written])


def test_the_key_is_in_no_process_s_arguments(failed: Ended, refused: Ended) -> None:
    seen = failed.arguments | refused.arguments
    for program in ("fleet.provider", "fleet.ansible.supervisor", "ansible-playbook", "HostKeyAlias=glm-1"):
        assert any(program in line for line in seen), program
    assert not [line for line in seen if KEY in line]


def ready(served: Props, run_probes: serving.RunProbes) -> tuple[Props, list[str], list[str]]:
    """Apply a Serving in this process, with a run that is known to end well; return its outputs, what it said and what it warned of."""
    results = {"fleet_serving": {"replicas": served["vars"]["site_replicas"]}}
    outcome = converge.Outcome(results, managed_set.Declared(), 0, 1, {"site": 1.0})
    said, warned = list[str](), list[str]()
    made = serving.Serving(
        "Serving", ("replicas", "verdict"), Slots(), run=lambda *_: outcome, read=lambda *_: [{}], run_probes=run_probes
    )
    request = base.Request(
        urn("Serving"),
        lambda text, ephemeral: None if ephemeral else said.append(text),
        threading.Event(),
        warned.append,
    )
    return made.apply(request, served, None), said, warned


def test_a_replica_that_sees_is_ready(
    served: Props, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SSH connection, the model and the probes are real."""
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    monkeypatch.setattr(model, "words", SEEING)
    made, said, warned = ready(served, serving.run_probes)
    assert (made["verdict"]["passed"], made["verdict"]["total"]) == (2, 2)
    assert (said, warned) == (["2 of 2 probes passed"], [])


def test_an_advisory_probe_warns_and_one_that_passed_at_the_second_time_says_so(
    served: Props, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    thinks, sees = probes.load(["reasoning-apart", "bottle-grounding"])
    results = [
        probes.ProbeResult(thinks, Answer(200, "yes"), ["no reasoning"], 1.0),
        probes.ProbeResult(sees, Answer(200, "[[89,298,223,786]]"), [], 1.0, (Answer(200, "Where?"), ["no box"])),
    ]
    made, said, warned = ready(served, lambda *_: results)
    assert (made["verdict"]["passed"], made["verdict"]["total"]) == (1, 1)
    assert warned == [
        "advisory probe failed, the replica is ready: glm-0: reasoning-apart: answered 'yes' (no reasoning)"
    ]
    assert said == [
        "passed at the second try: glm-0: bottle-grounding: answered '[[89,298,223,786]]'; at first 'Where?' (no box)",
        "1 of 1 probes passed",
    ]


def test_a_case_of_one_s_own_gates_a_replica(
    served: Props, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_STATE", str(tmp_path))
    monkeypatch.setattr(model, "words", "Good day")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "greets.yaml").write_text("{about: It greets., question: Hello!, checks: [{words: [hello]}]}")
    own = {**served, "probes": {"cases": ["greets"], "min_iou": 0.5, "extra": "own"}}
    with pytest.raises(base.InitFailed, match="glm-0: greets: answered twice 'Good day'"):
        ready(own, serving.run_probes)


def test_a_host_as_it_was_left_shows_no_drift(plugin: Plugin, served: Props, refused: Ended) -> None:
    assert plugin.read("Serving", served, refused.half.properties) == refused.half.properties


def test_what_was_changed_by_hand_is_drift(plugin: Plugin, served: Props, refused: Ended, text: Path) -> None:
    text.chmod(0o600)
    found = plugin.read("Serving", served, refused.half.properties)
    assert found["drift"] == [Difference("file", str(text), "mode", "0644", "0600").to_json()]
    assert {**found, "drift": []} == refused.half.properties


def test_what_was_removed_by_hand_is_drift(plugin: Plugin, served: Props, refused: Ended, text: Path) -> None:
    text.unlink()
    found = plugin.read("Serving", served, refused.half.properties)
    assert found["drift"] == [Difference("file", str(text), "present", True, False).to_json()]


@pytest.mark.usefixtures("text")
def test_a_delete_takes_off_what_was_made_and_nothing_else(plugin: Plugin, folder: Path, refused: Ended) -> None:
    theirs = folder / "theirs"
    theirs.touch()
    plugin.delete("Serving", refused.half.properties)
    assert [*folder.iterdir()] == [theirs]
    theirs.unlink()
