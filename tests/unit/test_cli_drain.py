"""`fleet drain`, `fleet undrain`, and what `fleet show` says about drains. The node glm-1 is real up to HAProxy's admin socket, glm-2 is imaginary."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click import testing

from fleet import errors, ssh
from fleet.cli import main
from fleet.managed import rotation
from fleet.managed.rotation import Look
from tests.support.node_proxy import Node, StandIn
from tests.support.programs import write_program
from tests.support.ssh_server import Server

STACK = Path("stacks/Pulumi.prod.yaml").read_text()
OTHER = Look("answers", False, "", {}, 0, {}, 0, 0, {"glm-0": {"unit": "active", "proxy": "UP"}}, True)
DEAD = errors.Unreachable(node="glm-2", doing="connect to root@192.0.2.12:22", seen="no answer after 10 s")
Real = Callable[[Mapping[str, ssh.Target]], dict[str, Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture
def other() -> list[Any]:
    """How glm-2 serves, as one entry."""
    return [OTHER]


@pytest.fixture
def node(tmp_path: Path, server: Server, other: list[Any], monkeypatch: pytest.MonkeyPatch) -> Node:
    """A stack with a gateway and two nodes; a drain waits one second."""
    (tmp_path / "node").mkdir()
    node = Node(tmp_path / "node", ("glm-0", "glm-1"))
    text = rotation.SCRIPT.read_text()
    for slow, fast in {
        "STEP = 0.1, 1.0": "STEP = 0.01, 0.1",
        "STILL = 0.5": "STILL = 0.1",
        "BACK = 30.0": "BACK = 0.3",
    }.items():
        assert slow in text
        text = text.replace(slow, fast)
    (tmp_path / "drain.py").write_text(text)
    monkeypatch.setattr(rotation, "SCRIPT", tmp_path / "drain.py")
    monkeypatch.setattr(rotation, "PATHS", node.paths)
    real: Real = rotation.looks

    def looks(targets: Mapping[str, ssh.Target]) -> dict[str, Any]:
        ours = real({name: target for name, target in targets.items() if name == "glm-1"})
        return {name: ours.get(name, other[0]) for name in targets}

    monkeypatch.setattr(rotation, "looks", looks)
    target = server.target
    connection = {key: getattr(target, key) for key in ("name", "address", "port", "user", "identity", "host_key")}
    replicas = [{"name": name, "port": 8000, "model": "m"} for name in ("glm-0", "glm-1")]
    evidence = {"connection": connection, "replicas": replicas, "probes": None, "seconds": {}}
    outputs = {"endpoint": "https://glm.example", "replicas": {"glm-1": evidence, "glm-2": evidence}}
    (tmp_path / "answer").write_text(json.dumps(outputs))
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "pulumi", f"case $2 in export) echo '{{}}' ;; *) cat {tmp_path}/answer ;; esac")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{node.path}")
    (tmp_path / "Pulumi.yaml").touch()
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text(f"{STACK.rstrip()}\n  glm-fleet:change: {{drain: 1}}\n")
    monkeypatch.chdir(tmp_path)
    return node


@pytest.fixture
def proxy(node: Node) -> Iterator[StandIn]:
    with StandIn(node) as proxy:
        yield proxy


def run(verb: str, *arguments: str) -> testing.Result:
    return testing.CliRunner().invoke(main.main, [verb, "-s", "prod", *arguments])


def plain(text: str) -> str:
    """Return a text with one time in place of each."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "TIME", text)


def test_a_drained_node_gets_no_requests_until_the_operator_puts_it_back(node: Node, proxy: StandIn) -> None:
    result = run("drain", "glm-1")
    assert (result.stdout, result.exit_code) == (
        "glm-1 is out of rotation, and nothing is in flight there\n"
        "1 of 2 nodes serves; `fleet undrain -s prod glm-1` puts it back\n",
        0,
    )
    assert (proxy.admission, node.mark) == ("MAINT", {"node": "operator", "replicas": {}})
    result = run("undrain", "glm-1")
    assert (result.output, result.exit_code) == ("glm-1 is back in rotation\n2 of 2 nodes serve\n", 0)
    assert (proxy.admission, node.mark) == ("no check", None)


def test_a_drained_replica_leaves_its_node_in_rotation(node: Node, proxy: StandIn) -> None:
    result = run("drain", "glm-1/glm-1")
    assert result.stderr == "drains: 0 requests in flight\n", "a line for each change"
    assert result.stdout == (
        "glm-1/glm-1 is out of rotation, and nothing is in flight there\n"
        "2 of 2 nodes serve; `fleet undrain -s prod glm-1/glm-1` puts it back\n"
    )
    assert (proxy.admission, proxy.replicas["glm-1"].status) == ("no check", "MAINT")
    assert run("undrain", "glm-1/glm-1").output == "glm-1/glm-1 is back in rotation\n2 of 2 nodes serve\n"
    assert proxy.replicas["glm-1"].status == "UP"


def test_requests_that_still_run_are_counted_and_the_exit_code_says_so(proxy: StandIn) -> None:
    proxy.load(2)
    result = run("drain", "glm-1")
    assert result.exit_code == 1
    assert result.output.splitlines()[-2] == (
        "glm-1 is out of rotation; 2 requests still run there after 1 s (`drain` of glm-fleet:change): what stops it cuts them"
    )


def test_a_gateway_that_does_not_ask_is_named(proxy: StandIn) -> None:
    proxy.asking, proxy.gateways = False, {"glm-2": 5000}
    result = run("drain", "glm-1")
    assert result.exit_code == 1
    assert "\nglm-2 did not ask whether it is ready, and may still send to it\n" in result.output


@pytest.mark.parametrize("answer", [Look("answers", True, "operator", {}, 0, {}, 0, 0, OTHER.replicas, True), DEAD])
def test_the_last_node_that_serves_stays_unless_the_operator_insists(
    proxy: StandIn, other: list[Any], answer: Any
) -> None:
    other[0] = answer
    result = run("drain", "glm-1")
    assert result.exit_code == 2
    assert result.output.endswith(
        "glm-1: drain: without it no node serves, and clients get errors\n"
        "  wanted: another node that serves\n"
        "  next:   bring one back (`fleet show` says why they do not serve), or give --even-last\n"
    )
    assert proxy.admission == "no check"
    result = run("drain", "glm-1", "--even-last")
    assert result.exit_code == 0 and "\n0 of 2 nodes serve; " in result.output
    assert proxy.admission == "MAINT"


def test_the_last_replica_of_the_last_node_counts_as_the_node(proxy: StandIn, other: list[Any]) -> None:
    other[0] = DEAD
    assert run("drain", "glm-1/glm-0").exit_code == 0
    assert "without it no node serves" in run("drain", "glm-1/glm-1").output


def test_a_node_that_does_not_serve_is_drained_without_a_question(proxy: StandIn, node: Node, other: list[Any]) -> None:
    other[0] = DEAD
    for name in node.names:
        node.put_unit(name, "failed")
    assert run("drain", "glm-1").exit_code == 0


def test_a_drain_of_a_turn_is_left_to_up_unless_an_operator_takes_it_over(
    node: Node, proxy: StandIn, server: Server
) -> None:
    with ssh.connect(server.target) as connection:
        rotation.drain(connection, rotation.TURN, 1, lambda _: None, threading.Event())
    result = run("undrain", "glm-1")
    assert (plain(result.output), result.exit_code) == (
        "glm-1: undrain: drained by an unfinished turn since TIME\n"
        "  wanted: a drain by `fleet drain`\n"
        "  next:   `pulumi up -s prod` ends the turn. Where no `up` is possible: `fleet drain`, which takes it over, then `fleet undrain`\n",
        1,
    )
    assert run("drain", "glm-1").exit_code == 0
    assert run("undrain", "glm-1").output.startswith("glm-1 is back in rotation\n")


def test_undrain_of_what_is_not_drained_changes_nothing_and_names_what_is(proxy: StandIn) -> None:
    run("drain", "glm-1/glm-0")
    before = len(proxy.commands)
    assert plain(run("undrain", "glm-1").output) == (
        "glm-1 is not drained\n"
        "2 of 2 nodes serve\n"
        "glm-1/glm-0: drained by operator since TIME; `fleet undrain -s prod glm-1/glm-0` puts it back\n"
    )
    assert not [line for line in proxy.commands[before:] if line.startswith("set")]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("glm-3", "glm-3: drain: no such node\n  wanted: glm-1, glm-2\n"),
        ("glm-1/glm-7", "glm-1/glm-7: drain: no such replica\n  wanted: glm-1/glm-0, glm-1/glm-1\n"),
    ],
)
@pytest.mark.usefixtures("proxy")
def test_a_name_that_does_not_exist_is_an_error(place: str, message: str) -> None:
    result = run("drain", place)
    assert (result.output, result.exit_code) == (message, 2)


@pytest.mark.usefixtures("node")
def test_a_node_without_a_proxy_cannot_be_drained() -> None:
    assert run("drain", "glm-1").output == (
        "glm-1: drain: it has no node proxy\n"
        "  wanted: a node proxy, which sends requests or does not\n"
        "  next:   `glm-fleet:gateway` in the stack file, then `pulumi up`\n"
    )


def test_a_proxy_that_is_silent_would_not_keep_a_drain(node: Node) -> None:
    Path(node.paths["proxy"]).mkdir()
    assert "its node proxy does not answer" in run("drain", "glm-1").output
    assert node.mark is None


def test_show_says_what_is_drained_by_whom_and_who_does_not_answer(proxy: StandIn, other: list[Any]) -> None:
    assert "drained" not in run("show").output
    run("drain", "glm-1")
    run("drain", "glm-1/glm-0")
    other[0] = DEAD
    assert (
        "\n\nglm-1: drained by operator since TIME; `fleet undrain -s prod glm-1` puts it back\n"
        "glm-1/glm-0: drained by operator since TIME; `fleet undrain -s prod glm-1/glm-0` puts it back\n"
        "glm-2: connect to root@192.0.2.12:22: no answer after 10 s\n"
    ) in plain(run("show").output)


def test_show_names_a_node_that_no_gateway_reaches_though_its_replicas_are_healthy(proxy: StandIn) -> None:
    """As with a wrong certificate, or a firewall between the nodes."""
    proxy.gateways, proxy.uptime = {}, 10
    line = "glm-1: no gateway reaches its node proxy; `journalctl -u fleet-proxy` there says why\n"
    assert line in run("show").output


def test_show_names_a_replica_that_gets_no_request_though_its_unit_is_active(proxy: StandIn) -> None:
    """As a vLLM server that is frozen: no refresh sees it."""
    proxy.replicas["glm-1"].status = "DOWN"
    line = "glm-1/glm-1: serves nothing: its unit is active, the node proxy finds it DOWN\n"
    assert f"\n\n{line}" in run("show").output
    run("drain", "glm-1/glm-1")
    assert "serves nothing" not in run("show").output


def test_show_names_a_node_whose_proxy_is_silent(node: Node) -> None:
    Path(node.paths["proxy"]).mkdir()
    assert "\n\nglm-1: its node proxy does not answer\n" in run("show").output


def test_show_says_when_the_proxy_does_not_heed_the_drain(node: Node, proxy: StandIn) -> None:
    run("drain", "glm-1")
    proxy.admission = "no check"
    assert "glm-1: drained by operator since TIME, and its proxy takes requests all the same; " in plain(
        run("show").output
    )


def test_a_drain_keeps_the_time_of_its_first(proxy: StandIn, node: Node) -> None:
    run("drain", "glm-1")
    mark = Path(node.paths["mark"])
    mark.write_text(mark.read_text().replace('"since": 1', '"since": 10'))  # far in the future
    first = run("show").output
    run("drain", "glm-1", "--even-last")
    assert run("show").output == first
