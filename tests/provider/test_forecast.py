"""The plugin's forecast of a whole preview, and the durations that a run leaves in the state for the next preview."""

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


@pytest.fixture(scope="module")
def shared_plugin(launch: Launch) -> Iterator[Plugin]:
    """A plugin for tests that read the lines of their own node alone, with an engine of its own."""
    plugin = launch(Engine())
    yield plugin
    plugin.engine.close()


def forecast(plugin: Plugin) -> list[str]:
    """Return the lines of the forecast, which the program requests."""
    plugin.engine.lines.clear()
    plugin.forecast(STACK)
    assert {(line.urn, line.ephemeral) for line in plugin.engine.lines} <= {(STACK, False)}
    return [line.message for line in plugin.engine.lines]


def update(plugin: Plugin, name: str, took: Props, news: Props = FLAG) -> None:
    plugin.update("Serving", INPUTS, {**INPUTS, **OUTPUTS, "took": took}, news, preview=True, name=name)


def replacement(plugin: Plugin, name: str) -> None:
    """Make the Pulumi engine's requests for a resource with another machine."""
    old, new = {**INPUTS, "node": {**NODE, "name": "old"}}, INPUTS
    this = {"urn": urn("Serving", name)}
    plugin.stub.Check(provider_pb2.CheckRequest(**this, olds=struct(old), news=struct(new)))
    fields = {"old_inputs": struct(old), "olds": struct({**old, **OUTPUTS}), "news": struct(new)}
    assert list(plugin.stub.Diff(provider_pb2.DiffRequest(**this, **fields)).replaces) == ["node.name"]
    plugin.stub.Check(provider_pb2.CheckRequest(**this, news=struct(new)))
    plugin.stub.Create(provider_pb2.CreateRequest(**this, properties=struct(new), preview=True))


def test_without_a_preview_the_forecast_is_empty(fresh_plugin: Plugin) -> None:
    assert forecast(fresh_plugin) == []


def test_the_forecast_has_every_preview_beside_the_stack(fresh_plugin: Plugin) -> None:
    fresh_plugin.stub.Configure(provider_pb2.ConfigureRequest(args=struct({"parallel": 1})))
    for name in ("glm-2", "glm-3"):
        update(fresh_plugin, name, {"restart": 92.3, "new": 400})
    replacement(fresh_plugin, "glm-4")
    fresh_plugin.stub.Create(creation("Serving", INPUTS, preview=True))
    assert forecast(fresh_plugin) == [
        "glm-4: replace Serving, not measured yet: node.name changed",
        "glm-2, glm-3: restart glm-0, glm-1, about 92 s each, 1 at a time: vllm_flags.max-model-len 65536 -> 32768",
        "glm-1: set up Serving, not measured yet",
    ]


@pytest.mark.parametrize(
    ("took", "duration"),
    [
        ({}, "not measured yet"),
        ({"none": 4}, "not measured yet"),
        ({"new": 400, "none": 4}, "about 7 min"),
        ({"new": 400, "restart": 92}, "about 92 s"),
    ],
)
def test_a_forecast_has_the_duration_of_a_run_with_the_same_effect(
    shared_plugin: Plugin, took: Props, duration: str
) -> None:
    update(shared_plugin, "glm-9", took, changed("vars", "vllm_flags", "seed", to=1))
    lines = [line.split(": ")[1] for line in forecast(shared_plugin) if line.startswith("glm-9")]
    assert lines == [f"restart glm-0, glm-1, {duration}"]


@pytest.mark.parametrize(("level", "former"), [("repair", "mends"), ("await", "waits"), ("recreate", "anew")])
def test_a_level_that_release_0_1_0_measured_under_another_name_is_known(level: str, former: str) -> None:
    assert preview_summary.expected_seconds(Effect(level, (), ()), {former: 11, "restart": 92, "new": 400}) == 11
    assert preview_summary.expected_seconds(Effect(level, (), ()), {level: 5, former: 11}) == 5


def test_only_the_last_preview_of_a_resource_counts(shared_plugin: Plugin) -> None:
    update(shared_plugin, "glm-9", {})
    update(shared_plugin, "glm-9", {}, {**INPUTS, "probes": {"digest": "1"}})
    assert [line for line in forecast(shared_plugin) if "glm-9" in line] == [
        "glm-9: nothing restarts: the probes changed: they run again"
    ]


def test_another_function_is_refused(shared_plugin: Plugin) -> None:
    with pytest.raises(grpc.RpcError, match="no such function: fleet:index:other"):
        shared_plugin.stub.Invoke(provider_pb2.InvokeRequest(tok="fleet:index:other"))


def run(old: Props | None, news: Props, seconds: float) -> Props:
    """Return the state after a run of so many seconds, in this process and without a machine."""
    outcome = converge.Outcome({}, managed_set.Declared(), 0, 1, {"vllm": seconds})
    serving = Playbook("Serving", ("replicas",), Slots(), run=lambda *_: outcome, read=lambda *_: [{}])
    request = Request(urn("Serving"), lambda text, ephemeral: None, threading.Event())
    login = {"user": "root", "host_key": "ssh-ed25519 AAAA", "identity": "", "become": False}
    node = {"name": "prod-3", "address": NODE["address"], "port": 22, **login}
    return serving.apply(request, {**news, "node": node}, old and {**old, "node": node})


def test_a_run_records_its_duration_under_its_effect_so_that_a_short_one_hides_no_restart() -> None:
    first = run(None, INPUTS, 400)
    assert first["took"] == {"new": 400}
    restarted = run(first, FLAG, 92.34)
    assert restarted["took"] == {"new": 400, "restart": 92.3}
    probed_again = run(restarted, {**FLAG, "probes": {"digest": "1"}}, 5)
    assert probed_again["took"] == {"new": 400, "restart": 92.3, "none": 5}
    assert probed_again["seconds"] == {"vllm": 5}
    drift = [Difference("unit", "glm-0.service", "state", "active", "failed").to_json()]
    repaired = run({**probed_again, "drift": drift}, {**FLAG, "probes": {"digest": "1"}}, 80)
    assert repaired["took"] == {"new": 400, "restart": 80, "none": 5}


def test_a_run_that_only_continues_a_failed_one_records_no_duration() -> None:
    first = run(None, INPUTS, 400)
    assert run(first, INPUTS, 3)["took"] == {"new": 400}
