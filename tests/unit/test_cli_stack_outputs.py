"""The verbs that read a stack's outputs: what they print, which replica a name means, how they fail."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click import testing

from fleet import errors, probes
from fleet.cli import main, show, stack_outputs, table
from fleet.probes.answer import Answer
from tests.support.programs import write_program

GOLDEN = Path(__file__).parent / "golden" / "cli_stack_outputs"
Request = tuple[str, str, str]  # url, model, case


def outputs() -> dict[str, Any]:
    """Return the outputs of a stack with two nodes, as `pulumi stack output --json` prints them: numbers may be floats."""

    def node(name: str, replicas: list[dict[str, Any]], **seconds: float) -> dict[str, Any]:
        return {
            "connection": {"name": name, "address": "192.0.2.11", "port": 22.0, "host_key": "ssh-ed25519 A"},
            "image": "registry.example/glm/serving@sha256:" + "ab" * 32,
            "commit": "0123456789abcdef" * 2 + "01234567",
            "revision": "fedcba9876543210" * 2 + "fedcba98",
            "replicas": replicas,
            "probes": {"passed": 10.0, "total": 10.0},
            "seconds": seconds,
        }

    two = [
        {"name": "glm-0", "port": 8000.0, "model": "zai-org/GLM-4.6V-Flash"},
        {"name": "glm-1", "port": 8001.0, "model": "zai-org/GLM-4.6V-Flash"},
    ]
    return {
        "api_key": "0123456789abcdef0123456789abcdef",
        "endpoints": {
            "prod-1/glm-0": "http://127.0.0.1:8000/v1",
            "prod-1/glm-1": "http://127.0.0.1:8001/v1",
            "prod-22/glm-0": "http://127.0.0.1:8000/v1",
        },
        "replicas": {
            "prod-1": node("prod-1", two, host=41.2, docker=30.6, rocm=0.2, vllm=61.0),
            "prod-22": node("prod-22", two[:1], host=1.0),
        },
    }


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a `pulumi` on PATH that answers with the content of a file (of `state`, to an export), or fails with the text of another."""
    write_program(
        tmp_path / "pulumi",
        f'cd {tmp_path}; echo "$@" >> calls\n'
        "[ ! -e error ] || { cat error >&2; exit 255; }\n"
        "case $2 in export) cat state ;; get) cat key ;; *) cat answer ;; esac",
    )
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "answer").write_text(json.dumps(outputs()))
    (tmp_path / "state").write_text("{}")
    return tmp_path


def run(*arguments: str) -> testing.Result:
    return testing.CliRunner().invoke(main.main, arguments)


def test_show_prints_a_table_and_two_lines_to_paste(pulumi: Path) -> None:
    result = run("show", "-s", "prod")
    assert result.output == (GOLDEN / "two-nodes.txt").read_text()
    assert (pulumi / "calls").read_text() == "stack output --json --show-secrets -s prod\nstack export -s prod\n"


def test_show_prints_no_secret(pulumi: Path) -> None:
    assert outputs()["api_key"] not in run("show", "-s", "prod").output


def test_the_line_to_paste_shows_the_key_to_the_server_and_to_no_process_list(pulumi: Path) -> None:
    """The stand-in `curl` prints its arguments and its headers."""
    key = outputs()["api_key"]
    (pulumi / "answer").write_text(key)
    curl = 'printf "%s\\n" "$@"; for word; do case $word in @/*) echo "sent: $(cat "${word#@}")" ;; esac; done'
    for name, script in {"make": "true", "fleet": "echo '{}'", "curl": curl}.items():
        write_program(pulumi / name, script)
    line = show.paste(outputs(), "prod").splitlines()[-1]
    output = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
    arguments, _, header = output.partition("sent: ")
    assert header.strip() == f"Authorization: Bearer {key}"
    assert "http://127.0.0.1:8000/v1/chat/completions" in arguments and key not in arguments


def test_show_prints_a_dash_for_what_never_ran() -> None:
    assert table.short("") == table.phases({}) == table.phases({"rocm": 0.1}) == "-"


@pytest.mark.parametrize(
    ("name", "replicas"),
    [
        ("", ["prod-1/glm-0", "prod-1/glm-1", "prod-22/glm-0"]),
        ("prod-1", ["prod-1/glm-0", "prod-1/glm-1"]),
        ("prod-1/glm-1", ["prod-1/glm-1"]),
    ],
)
def test_a_name_means_one_replica_or_all_of_a_node(name: str, replicas: list[str]) -> None:
    assert [replica.name for replica in stack_outputs.choose(outputs(), name)] == replicas


def test_a_replica_has_the_address_of_its_socket_or_in_an_older_state_its_port() -> None:
    stack = outputs()
    two = [{"name": name, "socket": f"/run/fleet/{name}/sock", "model": "m"} for name in ("glm-0", "glm-1")]
    stack["replicas"]["prod-1"]["replicas"] = two
    assert {replica.name: replica.address for replica in stack_outputs.replicas(stack)} == {
        "prod-1/glm-0": "/run/fleet/glm-0/sock",
        "prod-1/glm-1": "/run/fleet/glm-1/sock",
        "prod-22/glm-0": 8000,
    }


@pytest.mark.parametrize("name", ["prod-2", "prod-1/glm-9", "glm-0"])
def test_an_unknown_name_is_refused_with_the_names_of_all_replicas(name: str) -> None:
    with pytest.raises(errors.FleetError, match="no such replica") as caught:
        stack_outputs.choose(outputs(), name)
    assert caught.value.wanted == "prod-1/glm-0, prod-1/glm-1, prod-22/glm-0"


def test_an_error_of_pulumi_is_the_message(pulumi: Path) -> None:
    (pulumi / "error").write_text("error: no stack named 'prdo' found\n")
    result = run("show", "-s", "prdo")
    assert result.exit_code == 1
    assert "read the outputs of stack prdo: error: no stack named 'prdo' found" in result.output


def test_without_pulumi_on_path_the_message_has_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("show", "-s", "prod")
    assert result.exit_code == 1
    assert 'eval "$(make env)"' in result.output


def test_show_refuses_a_stack_without_a_replica(pulumi: Path) -> None:
    (pulumi / "answer").write_text("{}")
    result = run("show", "-s", "prod")
    assert result.exit_code == 1
    assert "no replica serves" in result.output


def failed_state(**reasons: str) -> dict[str, Any]:
    """Return the state of the stack whose last update failed at these kinds of prod-22's resources: {kind: message}."""
    node = outputs()["replicas"]["prod-22"]
    own: dict[str, dict[str, Any]] = {
        "Node": {"connection": node["connection"]},
        "Host": {"seconds": {"host": 1.0}},
        "Weights": {},
        "Serving": {
            "node": node["connection"],
            "image": node["image"],
            "weights": {"revision": node["revision"]},
            "replicas": node["replicas"],
            "verdict": node["probes"],
            "seconds": {},
        },
    }

    def resource(kind: str, name: str, outputs: dict[str, Any]) -> dict[str, Any]:
        errors = {"initErrors": [reasons[kind]]} if kind in reasons and name == "prod-22" else {}
        urn = f"urn:pulumi:prod::glm-fleet::x::{name}"
        return {"type": f"fleet:index:{kind}", "urn": urn, "outputs": outputs, **errors}

    image = resource("Image", "prod-1", {"image": node["image"], "commit": node["commit"]})
    return {"deployment": {"resources": [image, *(resource(kind, "prod-22", seen) for kind, seen in own.items())]}}


NOT_HEALTHY = "prod-22: vllm: Await the replicas: glm-0 is not healthy\n  wanted: a healthy replica"


@pytest.mark.parametrize("missing", [None, "the outputs of the node", "all outputs"])
def test_after_a_failed_change_show_prints_the_state_and_the_failure(pulumi: Path, missing: str | None) -> None:
    (pulumi / "state").write_text(json.dumps(failed_state(Serving=NOT_HEALTHY)))
    stack = outputs()
    if missing == "the outputs of the node":
        stack["replicas"]["prod-22"] = None
    (pulumi / "answer").write_text("{}" if missing == "all outputs" else json.dumps(stack))
    result = run("show", "-s", "prod")
    assert result.exit_code == 0, result.output
    report = (GOLDEN / "a-failed-change.txt").read_text()
    if missing == "all outputs":  # prod-1 has no Serving in this state
        report = "".join(line for line in report.splitlines(True) if not line.startswith("prod-1 "))
        report = report.replace("prod-1/glm-0", "prod-22/glm-0")
    assert result.output == report


def test_show_reports_a_node_that_waits_for_another_node_s_image_as_unfinished(pulumi: Path) -> None:
    (pulumi / "state").write_text(json.dumps(failed_state()))
    (pulumi / "answer").write_text(json.dumps({"replicas": {"prod-22": None}}))
    result = run("show", "-s", "prod")
    assert "\nprod-22  glm-0    abababababab" in result.output
    assert "\nprod-22: the last change failed: it did not reach the end\n" in result.output


def test_after_a_failed_change_probe_still_asks_the_replicas(pulumi: Path, requests: list[Request]) -> None:
    (pulumi / "state").write_text(json.dumps(failed_state(Serving=NOT_HEALTHY)))
    (pulumi / "answer").write_text("{}")
    (pulumi / "key").write_text(json.dumps({"value": outputs()["api_key"], "secret": True}))
    result = run("probe", "-s", "prod", "--case", "bottle-grounding", "--json")
    assert result.exit_code == 0
    assert [url for url, _, _ in requests] == ["http://prod-22/glm-0"]
    assert json.loads(result.stdout)[0]["passed"]
    assert "prod-22: the last change failed: Serving: vllm: Await" in result.stderr


def test_the_table_has_a_line_for_a_machine_that_failed() -> None:
    stack = {"replicas": {**outputs()["replicas"], "prod-3": None}}
    assert show.table(stack).splitlines()[-1].split() == ["prod-3", "failed", "-", "-", "-", "-", "-"]
    assert len(stack_outputs.replicas(stack)) == 3


def test_request_prints_a_body_for_curl() -> None:
    result = run("request", "bottle-grounding", "--model", "zai-org/GLM-4.6V-Flash")
    body = json.loads(result.output)
    assert body["model"] == "zai-org/GLM-4.6V-Flash"
    assert body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_request_refuses_an_unknown_case_with_the_names_of_all() -> None:
    result = run("request", "botle-grounding")
    assert result.exit_code == 1
    assert "bottle-grounding" in result.output


OWN = "{about: It greets., question: Hello!, checks: [{words: [hello]}]}"


def test_request_prints_the_body_of_a_user_s_own_case(tmp_path: Path) -> None:
    (tmp_path / "greets.yaml").write_text(OWN)
    body = json.loads(run("request", "greets", "--extra", str(tmp_path)).output)
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Hello!"}]


@pytest.fixture
def requests(pulumi: Path, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Answer every probe without a machine, of prod-1/glm-1 wrongly; return the requests."""
    requests: list[Request] = []

    @contextlib.contextmanager
    def tunnel(replica: stack_outputs.Replica, port: int = 0) -> Iterator[str]:
        yield f"http://{replica.name}"

    def answer(
        url: str, key: str, model: str, cases: Sequence[probes.Case], note: Callable[[str], None]
    ) -> list[probes.ProbeResult]:
        assert key == outputs()["api_key"]
        requests.extend((url, model, case.name) for case in cases)
        wrong = ["no box"] if url.endswith("prod-1/glm-1") else []
        return [probes.ProbeResult(case, Answer(200, "text"), wrong, 1.0) for case in cases]

    monkeypatch.setattr(stack_outputs, "tunnel", tunnel)
    monkeypatch.setattr(probes, "run", answer)
    return requests


def test_a_wrong_answer_of_one_replica_gives_exit_code_1_and_its_name(requests: list[Request]) -> None:
    result = run("probe", "-s", "prod", "--case", "bottle-grounding")
    assert result.exit_code == 1
    assert [url for url, _, _ in requests] == ["http://prod-1/glm-0", "http://prod-1/glm-1", "http://prod-22/glm-0"]
    failures = [line.split()[1:3] for line in result.output.splitlines() if line.startswith("FAIL")]
    assert failures == [["prod-1/glm-1", "bottle-grounding"]]


@pytest.mark.usefixtures("requests")
def test_right_answers_give_exit_code_0_and_every_report(tmp_path: Path) -> None:
    files = ["--junit", str(tmp_path / "junit.xml"), "--html", str(tmp_path / "page.html")]
    result = run("probe", "-s", "prod", "prod-22/glm-0", "--case", "bottle-grounding", "--json", *files)
    assert result.exit_code == 0
    assert [row["passed"] for row in json.loads(result.stdout)] == [True]
    assert 'name="prod-22/glm-0 bottle-grounding"' in (tmp_path / "junit.xml").read_text()
    assert "prod-22/glm-0 bottle-grounding" in (tmp_path / "page.html").read_text()


@pytest.mark.usefixtures("requests")
def test_a_wrong_answer_to_an_advisory_probe_gives_a_warning_and_exit_code_0() -> None:
    result = run("probe", "-s", "prod", "prod-1/glm-1", "--case", "reasoning-apart")
    assert result.exit_code == 0
    assert result.output.splitlines()[0].split()[:3] == ["warn", "prod-1/glm-1", "reasoning-apart"]
    assert result.output.splitlines()[-1] == "0 of 0 probes passed; advisory: 0 of 1"


def test_probe_asks_the_cases_of_the_stack_s_own_folder_too(
    requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Pulumi.yaml").touch()
    (tmp_path / "stacks").mkdir()
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "greets.yaml").write_text(OWN)
    stack = (Path("stacks") / "Pulumi.prod.yaml").read_text()
    stack = stack.replace("glm-fleet:probes: {min_iou: 0.5}", "glm-fleet:probes: {extra: probes}")
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text(stack)
    monkeypatch.chdir(tmp_path)
    run("probe", "-s", "prod", "prod-22")
    assert [case for _, _, case in requests][-1] == "prod-22/glm-0 greets"


def test_probe_asks_all_cases_unless_the_user_names_some(requests: list[Request]) -> None:
    run("probe", "-s", "prod", "prod-22")
    assert len(requests) == len(probes.load())
