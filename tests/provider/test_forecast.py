"""What the plugin tells of a whole preview, and what a run leaves in the state so that the next preview can say how long it takes."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2

from fleet.ansible import converge
from fleet.drift import Difference
from fleet.impact.effects import Effect
from fleet.managed import managed_set
from fleet.provider import preview_summary
from fleet.provider.base import Request
from fleet.provider.playbook import Playbook
from fleet.provider.slots import Slots
from tests.support.plugin import Engine, Launch, Plugin, Props, creation, struct, urn
from tests.support.serving_inputs import INPUTS, NODE, OUTPUTS, changed

STACK = "urn:pulumi:test::glm-fleet::pulumi:pulumi:Stack::glm-fleet-test"
FLAG = changed("vars", "vllm_flags", "max-model-len", to=32768)


@pytest.fixture
def fresh(launch: Launch) -> Iterator[Plugin]:
    """A plugin that has previewed nothing yet, and its own engine."""
    plugin = launch(Engine())
    yield plugin
    plugin.engine.close()


@pytest.fixture(scope="module")
def used(launch: Launch) -> Iterator[Plugin]:
    """A plugin for tests that look at the lines of their own node alone, and its own engine."""
    plugin = launch(Engine())
    yield plugin
    plugin.engine.close()


def told(plugin: Plugin) -> list[str]:
    """Return what it says when the program asks for the forecast."""
    plugin.engine.lines.clear()
    plugin.forecast(STACK)
    assert {(line.urn, line.ephemeral) for line in plugin.engine.lines} <= {(STACK, False)}
    return [line.message for line in plugin.engine.lines]


def update(plugin: Plugin, name: str, took: Props, news: Props = FLAG) -> None:
    plugin.update("Serving", INPUTS, {**INPUTS, **OUTPUTS, "took": took}, news, preview=True, name=name)


def replacement(plugin: Plugin, name: str) -> None:
    """What the engine asks of a resource whose machine is another one."""
    old, new = {**INPUTS, "node": {**NODE, "name": "old"}}, INPUTS
    this = {"urn": urn("Serving", name)}
    plugin.stub.Check(provider_pb2.CheckRequest(**this, olds=struct(old), news=struct(new)))
    given = {"old_inputs": struct(old), "olds": struct({**old, **OUTPUTS}), "news": struct(new)}
    assert list(plugin.stub.Diff(provider_pb2.DiffRequest(**this, **given)).replaces) == ["node.name"]
    plugin.stub.Check(provider_pb2.CheckRequest(**this, news=struct(new)))
    plugin.stub.Create(provider_pb2.CreateRequest(**this, properties=struct(new), preview=True))


def test_where_nothing_was_previewed_nothing_is_told(fresh: Plugin) -> None:
    assert told(fresh) == []


def test_all_that_was_previewed_is_told_beside_the_stack(fresh: Plugin) -> None:
    fresh.stub.Configure(provider_pb2.ConfigureRequest(args=struct({"parallel": 1})))
    for name in ("glm-2", "glm-3"):
        update(fresh, name, {"restart": 92.3, "new": 400})
    replacement(fresh, "glm-4")
    fresh.stub.Create(creation("Serving", INPUTS, preview=True))
    assert told(fresh) == [
        "glm-4: replace Serving, not measured yet: node.name changed",
        "glm-2, glm-3: restart glm-0, glm-1, about 92 s each, 1 at a time: vllm_flags.max-model-len 65536 -> 32768",
        "glm-1: set up Serving, not measured yet",
    ]


@pytest.mark.parametrize(
    ("took", "how_long"),
    [
        ({}, "not measured yet"),
        ({"none": 4}, "not measured yet"),
        ({"new": 400, "none": 4}, "about 7 min"),
        ({"new": 400, "restart": 92}, "about 92 s"),
    ],
)
def test_how_long_is_said_by_a_run_that_did_as_much(used: Plugin, took: Props, how_long: str) -> None:
    update(used, "glm-9", took, changed("vars", "vllm_flags", "seed", to=1))
    assert [line.split(": ")[1] for line in told(used) if line.startswith("glm-9")] == [
        f"restart glm-0, glm-1, {how_long}"
    ]


@pytest.mark.parametrize(("level", "former"), [("repair", "mends"), ("await", "waits"), ("recreate", "anew")])
def test_a_level_that_release_0_1_0_measured_under_another_name_is_known(level: str, former: str) -> None:
    assert preview_summary.expected_seconds(Effect(level, (), ()), {former: 11, "restart": 92, "new": 400}) == 11
    assert preview_summary.expected_seconds(Effect(level, (), ()), {level: 5, former: 11}) == 5


def test_what_was_previewed_again_counts_once_and_as_it_is_now(used: Plugin) -> None:
    update(used, "glm-9", {})
    update(used, "glm-9", {}, {**INPUTS, "probes": {"digest": "1"}})
    assert [line for line in told(used) if "glm-9" in line] == [
        "glm-9: nothing restarts: the probes changed: they run again"
    ]


def test_another_function_is_refused(used: Plugin) -> None:
    with pytest.raises(grpc.RpcError, match="no such function: fleet:index:other"):
        used.stub.Invoke(provider_pb2.InvokeRequest(tok="fleet:index:other"))


def run(old: Props | None, news: Props, seconds: float) -> Props:
    """Return what a run of so many seconds leaves in the state; in this process, and no machine is asked."""
    outcome = converge.Outcome({}, managed_set.Declared(), 0, 1, {"vllm": seconds})
    serving = Playbook("Serving", ("replicas",), Slots(), run=lambda *_: outcome, read=lambda *_: [{}])
    request = Request(urn("Serving"), lambda text, ephemeral: None, threading.Event())
    known = {
        "address": NODE["address"],
        "user": "root",
        "host_key": "ssh-ed25519 AAAA",
        "identity": "",
        "name": "prod-3",
    }
    node = {**known, "port": 22, "become": False}
    return serving.apply(request, {**news, "node": node}, old and {**old, "node": node})


def test_each_run_is_measured_by_what_it_did_so_that_a_short_one_hides_no_restart() -> None:
    first = run(None, INPUTS, 400)
    assert first["took"] == {"new": 400}
    restarted = run(first, FLAG, 92.34)
    assert restarted["took"] == {"new": 400, "restart": 92.3}
    asked_again = run(restarted, {**FLAG, "probes": {"digest": "1"}}, 5)
    assert asked_again["took"] == {"new": 400, "restart": 92.3, "none": 5}
    assert asked_again["seconds"] == {"vllm": 5}
    drift = [Difference("unit", "glm-0.service", "state", "active", "failed").to_json()]
    mended = run({**asked_again, "drift": drift}, {**FLAG, "probes": {"digest": "1"}}, 80)
    assert mended["took"] == {"new": 400, "restart": 80, "none": 5}


def test_a_run_that_only_goes_on_with_a_failed_one_measures_nothing() -> None:
    first = run(None, INPUTS, 400)
    assert run(first, INPUTS, 3)["took"] == {"new": 400}
