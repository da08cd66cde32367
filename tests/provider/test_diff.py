"""What the engine is told to have changed: by property path, against the inputs before and against the state."""

import pytest
from pulumi.runtime.proto import provider_pb2

from fleet.drift import Difference
from fleet.provider import diffs
from tests.support.plugin import UNKNOWN, Plugin, Props
from tests.support.serving_inputs import INPUTS, NODE, OUTPUTS, changed

Kind = provider_pb2.PropertyDiff.Kind


def told(answer: provider_pb2.DiffResponse) -> dict[str, str]:
    assert answer.hasDetailedDiff
    assert (answer.changes == provider_pb2.DiffResponse.DIFF_SOME) is bool(answer.detailedDiff)
    return {path: Kind.Name(one.kind) for path, one in answer.detailedDiff.items()}


def test_the_same_inputs_are_no_change_whatever_the_outputs_are(plugin: Plugin) -> None:
    answer = plugin.diff("Serving", INPUTS, {**INPUTS, **OUTPUTS}, INPUTS)
    assert answer.changes == provider_pb2.DiffResponse.DIFF_NONE
    assert told(answer) == {}


@pytest.mark.parametrize(
    ("news", "path", "kind"),
    [
        (changed("vars", "vllm_flags", "max-model-len", to=32768), 'vars.vllm_flags["max-model-len"]', "UPDATE"),
        (changed("vars", "vllm_flags", "dtype", to="auto"), "vars.vllm_flags.dtype", "ADD"),
        (changed("vars", "vllm_flags", "seed", to=None), "vars.vllm_flags.seed", "DELETE"),
        (changed("vars", "vllm_replicas", 1, "port", to=9001), "vars.vllm_replicas[1].port", "UPDATE"),
        (changed("vars", "vllm_replicas", to=[{"name": "glm-0"}]), "vars.vllm_replicas", "UPDATE"),
        (changed("vars", "vllm_image", to=UNKNOWN), "vars.vllm_image", "UPDATE"),
        (changed("vars", to=UNKNOWN), "vars", "UPDATE"),
        (changed("node", to=UNKNOWN), "node", "UPDATE"),
        (changed("node", "address", to="192.0.2.4"), "node.address", "UPDATE"),
        (changed("api_key", to="9876543210"), "api_key", "UPDATE"),
        (changed("roles", "vllm", to="3  tasks/main.yml"), "roles.vllm", "UPDATE"),
        (changed("roles", "docker", to="1  tasks/main.yml"), "roles.docker", "ADD"),
    ],
)
def test_a_change_is_told_by_the_path_of_what_changed(plugin: Plugin, news: Props, path: str, kind: str) -> None:
    answer = plugin.diff("Serving", INPUTS, {**INPUTS, **OUTPUTS}, news)
    assert told(answer) == {path: kind}
    assert answer.detailedDiff[path].inputDiff
    assert list(answer.diffs) == [path.split(".")[0]]
    assert list(answer.replaces) == []


@pytest.mark.parametrize(
    ("kind", "inputs", "news", "path"),
    [
        ("Serving", INPUTS, changed("node", "name", to="prod-4"), "node.name"),
        ("Node", NODE, {**NODE, "name": "prod-4"}, "name"),
    ],
)
def test_another_machine_replaces_and_the_old_one_goes_first(
    plugin: Plugin, kind: str, inputs: Props, news: Props, path: str
) -> None:
    answer = plugin.diff(kind, inputs, inputs, news)
    assert told(answer) == {path: "UPDATE_REPLACE"}
    assert list(answer.replaces) == [path]
    assert answer.deleteBeforeReplace


def test_a_change_below_what_replaces_replaces_too() -> None:
    found = diffs.changes({"node": {"name": 1}, "nodes": 1}, {"node": {"name": 2}, "nodes": 2}, ["node"])
    assert {path: Kind.Name(kind) for path, kind in found.items()} == {"node.name": "UPDATE_REPLACE", "nodes": "UPDATE"}


def test_a_machine_at_another_address_is_the_same_machine(plugin: Plugin) -> None:
    olds = {**NODE, "connection": NODE, "facts": {"kernel": "6.8"}}
    assert told(plugin.diff("Node", NODE, olds, {**NODE, "address": "192.0.2.4"})) == {"address": "UPDATE"}


@pytest.mark.parametrize("before", [{}, {"wants": {"gpus": 8}}])
def test_what_the_plan_wants_of_a_machine_is_no_part_of_its_connection(plugin: Plugin, before: Props) -> None:
    """A state of an earlier release has nothing of it."""
    olds, news = {**NODE, **before}, {**NODE, "wants": {"gpus": 4}}
    answer = plugin.diff("Node", olds, {**olds, "connection": NODE, "facts": {}}, news)
    assert (answer.changes, told(answer)) == (provider_pb2.DiffResponse.DIFF_NONE, {})
    assert plugin.check("Node", news).inputs["wants"] == {"gpus": 4}, "it is kept"


def test_after_a_failed_update_the_inputs_before_it_still_differ(plugin: Plugin) -> None:
    """The state has the new values then: it alone would hide that the update never ended."""
    news = changed("vars", "vllm_flags", "max-model-len", to=32768)
    answer = plugin.diff("Serving", INPUTS, {**news, **OUTPUTS}, news)
    assert told(answer) == {'vars.vllm_flags["max-model-len"]': "UPDATE"}


def test_a_state_that_differs_from_its_inputs_is_a_change(plugin: Plugin) -> None:
    olds = changed("vars", "vllm_flags", "max-model-len", to=1)
    answer = plugin.diff("Serving", INPUTS, {**olds, **OUTPUTS}, INPUTS)
    assert told(answer) == {'vars.vllm_flags["max-model-len"]': "UPDATE"}


def test_drift_is_a_change_though_no_input_differs(plugin: Plugin) -> None:
    drift = [Difference("file", "/etc/x", "mode", "0644", "0600").to_json()]
    answer = plugin.diff("Serving", INPUTS, {**INPUTS, **OUTPUTS, "drift": drift}, INPUTS)
    assert told(answer) == {"drift": "UPDATE"}
    assert not answer.detailedDiff["drift"].inputDiff
    assert list(answer.replaces) == []


def test_a_tag_that_an_older_release_resolved_is_no_change(plugin: Plugin) -> None:
    news = {"node": NODE, "roles": {}, "vars": {}}
    olds = {**news, "resolved": {"transformers_base_image": "registry.example/glm:v1"}}
    assert told(plugin.diff("Image", olds, olds, news)) == {}
