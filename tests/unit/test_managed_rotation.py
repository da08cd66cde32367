"""A node in and out of rotation: the script of a node runs here, over SSH, at a stand-in of HAProxy's admin socket and, where this machine
has one, at a real HAProxy. tests/roles has it on a lab node."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.managed import rotation
from fleet.managed.standing import Standing
from tests.support.node_proxy import HAPROXY, Node, Real, StandIn
from tests.support.ssh_server import Server

NEVER = threading.Event()
Proxy = StandIn | Real


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node with two replicas and no proxy, and the script with short times."""
    node = Node(tmp_path, ("glm-0", "glm-1"))
    script = tmp_path / "drain.py"
    text = rotation.SCRIPT.read_text()
    for slow, fast in {"POLL, STEP = 0.1, 1.0": "POLL, STEP = 0.01, 0.1", "STILL = 0.5": "STILL = 0.1"}.items():
        assert slow in text
        text = text.replace(slow, fast)
    script.write_text(text.replace("BACK = 30.0", "BACK = 0.3"))
    monkeypatch.setattr(rotation, "SCRIPT", script)
    monkeypatch.setattr(rotation, "PATHS", node.paths)
    monkeypatch.setenv("PATH", node.path)
    return node


@pytest.fixture(params=["stand-in", *(["haproxy"] if HAPROXY else [])])
def proxy(request: pytest.FixtureRequest, node: Node) -> Iterator[Proxy]:
    with StandIn(node, gateways={"glm-1": 5000}) if request.param == "stand-in" else Real(node) as proxy:
        yield proxy


@pytest.fixture
def stand_in(node: Node) -> Iterator[StandIn]:
    with StandIn(node, gateways={"glm-1": 5000}) as proxy:
        yield proxy


@pytest.fixture
def connection(server: Server) -> Iterator[ssh.Connection]:
    with ssh.connect(server.target) as connection:
        yield connection


def drain(connection: ssh.Connection, seconds: float = 10, by: str = "turn", replica: str = "") -> rotation.Drained:
    return rotation.drain(connection, by, seconds, lambda text: None, NEVER, replica)


@pytest.mark.usefixtures("node")
def test_a_node_without_a_proxy_serves_with_its_active_units(connection: ssh.Connection) -> None:
    seen = rotation.look(connection)
    assert (seen.proxy, seen.standing, seen.failing) == ("none", Standing.SERVES, [])


@pytest.mark.parametrize(
    ("words", "standing", "failing"),
    [
        (("active", "activating"), Standing.SERVES, ["glm-1"]),
        (("failed", "inactive"), Standing.BROKEN, ["glm-0", "glm-1"]),
    ],
)
def test_a_replica_that_is_not_active_is_not_healthy(
    connection: ssh.Connection, node: Node, words: tuple[str, str], standing: Standing, failing: list[str]
) -> None:
    for name, word in zip(node.names, words, strict=True):
        node.put_unit(name, word)
    seen = rotation.look(connection)
    assert (seen.standing, seen.failing) == (standing, failing)


def test_a_node_without_units_of_replicas_serves_nothing(connection: ssh.Connection, node: Node) -> None:
    for name in node.names:
        node.drop_unit(name)
    assert rotation.look(connection).standing is Standing.NOTHING


def test_a_node_whose_proxy_is_there_and_silent_is_broken(connection: ssh.Connection, node: Node) -> None:
    Path(node.paths["proxy"]).mkdir()
    seen = rotation.look(connection)
    assert (seen.proxy, seen.standing) == ("silent", Standing.BROKEN)


@pytest.mark.parametrize(
    ("gateways", "uptime", "standing"),
    [({}, 10, Standing.UNREACHED), ({}, 9, Standing.SERVES), ({"glm-1": 5000}, 10, Standing.SERVES)],
    ids=["no gateway asks", "the proxy has just started", "a gateway asks"],
)
def test_a_node_that_no_gateway_asks_gets_no_request(
    connection: ssh.Connection, stand_in: StandIn, gateways: dict[str, int], uptime: int, standing: Standing
) -> None:
    stand_in.gateways, stand_in.uptime = gateways, uptime
    assert rotation.look(connection).standing is standing


@pytest.mark.parametrize(
    ("reached", "standings"),
    [
        ([True, False], [Standing.SERVES, Standing.UNREACHED]),
        ([False, False], [Standing.SERVES, Standing.SERVES]),
    ],
    ids=["one is reached", "none is reached: the gateways are at fault"],
)
def test_a_census_takes_a_node_that_no_gateway_reaches_out_of_service_while_they_reach_another(
    monkeypatch: pytest.MonkeyPatch, reached: list[bool], standings: list[Standing]
) -> None:
    healthy = {"glm-0": {"unit": "active", "proxy": "UP"}}
    answers = {
        f"glm-{n}": rotation.Look("answers", False, "", {}, 0, {}, 0, 0, healthy, one) for n, one in enumerate(reached)
    }
    monkeypatch.setattr(rotation, "looks", lambda targets: answers)
    targets = {name: ssh.Target(name, "192.0.2.1") for name in answers}
    assert [*rotation.census(targets, lambda text: None).values()] == standings


@pytest.mark.usefixtures("proxy")
def test_a_turn_s_drain_is_an_unfinished_turn_until_it_is_undone(connection: ssh.Connection, node: Node) -> None:
    assert rotation.look(connection).standing is Standing.SERVES
    assert drain(connection) == rotation.Drained(0, ())
    seen = rotation.look(connection)
    assert (seen.draining, seen.standing, node.mark) == (True, Standing.UNFINISHED, {"node": "turn", "replicas": {}})
    assert rotation.undrain(connection, "turn", NEVER)
    seen = rotation.look(connection)
    assert (seen.draining, seen.standing, node.mark) == (False, Standing.SERVES, None)


@pytest.mark.usefixtures("proxy")
def test_a_turn_leaves_an_operator_s_drain(connection: ssh.Connection, node: Node) -> None:
    drain(connection, by="operator")
    drain(connection, by="turn")
    assert not rotation.undrain(connection, "turn", NEVER)
    assert rotation.look(connection).standing is Standing.DRAINED
    assert rotation.undrain(connection, "operator", NEVER)
    assert rotation.look(connection).standing is Standing.SERVES


@pytest.mark.usefixtures("proxy")
def test_a_drained_replica_leaves_the_others_in_rotation(connection: ssh.Connection, node: Node) -> None:
    drain(connection, by="operator", replica="glm-0")
    seen = rotation.look(connection)
    assert (seen.standing, seen.draining, seen.healthy("glm-0"), seen.healthy("glm-1")) == (
        Standing.SERVES,
        False,
        False,
        True,
    )
    assert seen.failing == [], "a drained replica does not fail"
    assert node.mark == {"node": "", "replicas": {"glm-0": "operator"}}
    assert rotation.undrain(connection, "operator", NEVER, "glm-0")
    assert node.mark is None


def test_a_drain_waits_for_the_requests_in_flight(connection: ssh.Connection, proxy: Proxy) -> None:
    proxy.load(2)
    while rotation.look(connection).in_flight != 2:
        pass
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        proxy.load(0)

    assert rotation.drain(connection, "turn", 30, note, NEVER).running == 0
    assert notes[0].startswith("drains: 2 requests in flight")


def test_a_request_that_was_on_its_way_is_waited_for(connection: ssh.Connection, stand_in: StandIn) -> None:
    stand_in.loads = [0, 0, 0, 1, 0, 0, 1, 0]
    assert drain(connection) == rotation.Drained(0, ())
    assert stand_in.loads == []


def test_a_drain_ends_at_its_bound_and_counts_what_still_runs(connection: ssh.Connection, proxy: Proxy) -> None:
    proxy.load(1)
    while not rotation.look(connection).in_flight:
        pass
    assert drain(connection, seconds=0.5) == rotation.Drained(1, ())
    proxy.load(0)


def test_a_drain_waits_until_each_gateway_has_asked(connection: ssh.Connection, stand_in: StandIn) -> None:
    stand_in.asking = False
    stand_in.gateways = {"glm-1": 700, "glm-2": 700}
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        stand_in.asking = True

    assert rotation.drain(connection, "turn", 10, note, NEVER).silent == ()
    assert notes[0] == "drains: 0 requests in flight, glm-1, glm-2 may still send"


def test_a_gateway_that_does_not_ask_is_named(connection: ssh.Connection, stand_in: StandIn) -> None:
    stand_in.asking = False
    assert drain(connection, seconds=0.5) == rotation.Drained(0, ("glm-1",))


def test_every_gateway_has_read_that_it_drains_before_the_drain_ends(connection: ssh.Connection, proxy: Proxy) -> None:
    drain(connection)
    assert proxy.asked[-1] == 404


def test_a_drain_survives_a_restart_of_the_proxy(connection: ssh.Connection, proxy: Proxy) -> None:
    drain(connection, by="operator")
    proxy.stop()
    assert rotation.look(connection).proxy == "silent"
    proxy.start()
    assert rotation.look(connection).draining


def test_a_drain_writes_the_state_that_the_proxy_reads_at_its_start(
    connection: ssh.Connection, node: Node, stand_in: StandIn
) -> None:
    drain(connection)
    assert "admission node MAINT\n" in Path(node.paths["state"]).read_text()
    rotation.undrain(connection, "turn", NEVER)
    assert "admission node no check\n" in Path(node.paths["state"]).read_text()


def test_a_node_without_a_proxy_has_nothing_to_drain(connection: ssh.Connection, node: Node) -> None:
    assert drain(connection) == rotation.Drained(0, ())
    assert rotation.undrain(connection, "turn", NEVER)
    assert node.mark is None


def test_a_proxy_uses_the_replicas_new_key_before_it_sends_them_requests(
    connection: ssh.Connection, stand_in: StandIn
) -> None:
    drain(connection)
    assert rotation.undrain(connection, "turn", NEVER, key="new;key")
    key, ready = (
        next(place for place, line in enumerate(stand_in.commands) if word in line) for word in ("set map", "ready")
    )
    assert key < ready and stand_in.keys == [r"new\;key"]


def test_a_node_whose_proxy_does_not_find_its_replicas_is_not_back(
    connection: ssh.Connection, stand_in: StandIn
) -> None:
    for one in stand_in.replicas.values():
        one.status = "DOWN"
    with pytest.raises(errors.CommandFailed) as caught:
        rotation.undrain(connection, "turn", NEVER)
    assert str(caught.value) == (
        "glm-1: put it back into rotation: its proxy finds 0 of 2 replicas\n"
        "  wanted: replicas that are UP\n"
        f"  next:   {connection.target.login} systemctl status fleet-proxy"
    )


def test_a_cancel_ends_a_drain_within_two_lines_and_leaves_the_mark(
    connection: ssh.Connection, node: Node, stand_in: StandIn
) -> None:
    stand_in.load(1)
    cancelled = threading.Event()
    with pytest.raises(errors.Cancelled):
        rotation.drain(connection, "turn", 60, lambda text: cancelled.set(), cancelled)
    assert node.mark == {"node": "turn", "replicas": {}}


def test_a_watch_yields_the_requests_and_the_health_each_second(
    connection: ssh.Connection, node: Node, stand_in: StandIn
) -> None:
    looks = []
    for seen in rotation.watch(connection, 0.5, NEVER):
        looks.append((seen.requests, seen.failing))
        stand_in.replicas["glm-0"].stot += 5
        node.put_unit("glm-1", "failed")
    assert looks[0] == (0, [])
    assert looks[-1][1] == ["glm-1"] and looks[-1][0] >= 5


@pytest.mark.usefixtures("node")
def test_a_census_asks_every_node_and_counts_those_without_an_answer_as_dead(server: Server) -> None:
    silent = dataclasses.replace(server.target, name="glm-2", port=1)
    notes: list[str] = []
    targets = {"glm-1": server.target, "glm-2": silent, "glm-3": None}
    assert rotation.census(targets, notes.append) == {
        "glm-1": Standing.SERVES,
        "glm-2": Standing.DEAD,
        "glm-3": Standing.DEAD,
    }
    assert notes == ["glm-2 counts as out of service: connect to root@127.0.0.1:1: connection refused"]


Break = Callable[[StandIn], None]


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"[]", "list"),
        (b'{"proxy": "none"}', "draining: it is missing"),
        (b"welcome!", "no JSON: welcome!"),
    ],
)
@pytest.mark.usefixtures("node")
def test_a_node_that_prints_something_else_is_an_error_in_words(
    connection: ssh.Connection, server: Server, monkeypatch: pytest.MonkeyPatch, line: bytes, seen: str
) -> None:
    monkeypatch.setattr(server, "rewrite", lambda output: line + b"\n")
    with pytest.raises(errors.CommandFailed, match="ask how it serves") as caught:
        rotation.look(connection)
    assert caught.value.seen == seen
    with pytest.raises(errors.CommandFailed, match="drain it"):
        drain(connection)


def test_a_mark_that_is_no_json_is_no_mark(connection: ssh.Connection, node: Node) -> None:
    mark = Path(node.paths["mark"])
    mark.parent.mkdir()
    for text in ("", "[1]", "[" * 100_000, '{"node": 3, "replicas": 4}'):
        mark.write_text(text)
        with contextlib.suppress(errors.CommandFailed):
            assert rotation.look(connection).standing in (Standing.SERVES, Standing.DRAINED)


def test_the_paths_are_those_of_the_role_vllm() -> None:
    """The role gateway's own test has those of the proxy."""
    texts = [path.read_text() for path in Path("roles/vllm").rglob("*") if path.is_file()]
    assert any('"# glm-fleet replica"' in text for text in texts)
    assert any(f"_vllm_unit_dir: {rotation.PATHS['units']}\n" in text for text in texts)
    assert len({*itertools.chain(rotation.PATHS)}) == 5
