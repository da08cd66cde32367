"""The diff that the Pulumi engine gets: by property path, against the old inputs and the state."""

import pytest
from pulumi.runtime.proto import provider_pb2

from fleet.drift import Difference
from fleet.provider import diffs
from tests.support.plugin import UNKNOWN, Plugin, Props
from tests.support.serving_inputs import INPUTS, NODE, OUTPUTS, changed

Kind = provider_pb2.PropertyDiff.Kind


def kinds(answer: provider_pb2.DiffResponse) -> dict[str, str]:
    assert answer.hasDetailedDiff
    assert (answer.changes == provider_pb2.DiffResponse.DIFF_SOME) is bool(answer.detailedDiff)
    return {path: Kind.Name(difference.kind) for path, difference in answer.detailedDiff.items()}


def test_the_same_inputs_are_no_change_whatever_the_outputs_are(plugin: Plugin) -> None:
    answer = plugin.diff("Serving", INPUTS, {**INPUTS, **OUTPUTS}, INPUTS)
    assert answer.changes == provider_pb2.DiffResponse.DIFF_NONE
    assert kinds(answer) == {}


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
def test_a_diff_has_the_path_of_each_change(plugin: Plugin, news: Props, path: str, kind: str) -> None:
    answer = plugin.diff("Serving", INPUTS, {**INPUTS, **OUTPUTS}, news)
    assert kinds(answer) == {path: kind}
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
def test_another_machine_replaces_after_the_delete_of_the_old_one(
    plugin: Plugin, kind: str, inputs: Props, news: Props, path: str
) -> None:
    answer = plugin.diff(kind, inputs, inputs, news)
    assert kinds(answer) == {path: "UPDATE_REPLACE"}
    assert list(answer.replaces) == [path]
    assert answer.deleteBeforeReplace


def test_a_change_below_a_replacing_property_replaces_too() -> None:
    changes = diffs.changes({"node": {"name": 1}, "nodes": 1}, {"node": {"name": 2}, "nodes": 2}, ["node"])
    assert {path: Kind.Name(kind) for path, kind in changes.items()} == {
        "node.name": "UPDATE_REPLACE",
        "nodes": "UPDATE",
    }


def test_a_machine_at_another_address_is_the_same_machine(plugin: Plugin) -> None:
    olds = {**NODE, "connection": NODE, "facts": {"kernel": "6.8"}}
    assert kinds(plugin.diff("Node", NODE, olds, {**NODE, "address": "192.0.2.4"})) == {"address": "UPDATE"}


@pytest.mark.parametrize("before", [{}, {"wants": {"gpus": 8}}])
def test_the_plan_s_requirements_are_no_part_of_a_machine_s_connection(plugin: Plugin, before: Props) -> None:
    """A state of an earlier release lacks them."""
    olds, news = {**NODE, **before}, {**NODE, "wants": {"gpus": 4}}
    answer = plugin.diff("Node", olds, {**olds, "connection": NODE, "facts": {}}, news)
    assert (answer.changes, kinds(answer)) == (provider_pb2.DiffResponse.DIFF_NONE, {})
    assert plugin.check("Node", news).inputs["wants"] == {"gpus": 4}, "it is kept"


def test_after_a_failed_update_the_inputs_before_it_still_differ(plugin: Plugin) -> None:
    """The state has the new values then: alone it would hide that the update never ended."""
    news = changed("vars", "vllm_flags", "max-model-len", to=32768)
    answer = plugin.diff("Serving", INPUTS, {**news, **OUTPUTS}, news)
    assert kinds(answer) == {'vars.vllm_flags["max-model-len"]': "UPDATE"}


def test_a_state_that_differs_from_its_inputs_is_a_change(plugin: Plugin) -> None:
    olds = changed("vars", "vllm_flags", "max-model-len", to=1)
    answer = plugin.diff("Serving", INPUTS, {**olds, **OUTPUTS}, INPUTS)
    assert kinds(answer) == {'vars.vllm_flags["max-model-len"]': "UPDATE"}


def test_drift_is_a_change_though_no_input_differs(plugin: Plugin) -> None:
    drift = [Difference("file", "/etc/x", "mode", "0644", "0600").to_json()]
    answer = plugin.diff("Serving", INPUTS, {**INPUTS, **OUTPUTS, "drift": drift}, INPUTS)
    assert kinds(answer) == {"drift": "UPDATE"}
    assert not answer.detailedDiff["drift"].inputDiff
    assert list(answer.replaces) == []


@pytest.mark.parametrize(
    ("kind", "stays", "ends"),
    [
        ("Authority", {"certificate": "a", "private": "b", "ends": "2999-12-31"}, {"ends": "2020-01-01"}),
        ("Gateway", {"ends": {"node": "2999-12-31"}}, {"ends": {"node": "2999-12-31", "client": "2020-01-01"}}),
    ],
)
def test_a_certificate_that_ends_soon_is_a_change_though_no_input_differs(
    plugin: Plugin, kind: str, stays: Props, ends: Props
) -> None:
    inputs = {"vars": {"gateway_faces": ["node", "clients"]}} if kind == "Gateway" else {}
    assert kinds(plugin.diff(kind, inputs, {**inputs, **stays}, inputs)) == {}
    answer = plugin.diff(kind, inputs, {**inputs, **stays, **ends}, inputs)
    name = "certificates" if kind == "Gateway" else "certificate"
    assert kinds(answer) == {name: "UPDATE"}
    assert not answer.detailedDiff[name].inputDiff
    assert list(answer.replaces) == []


def test_a_tag_that_an_older_release_resolved_is_no_change(plugin: Plugin) -> None:
    news = {"node": NODE, "roles": {}, "vars": {}}
    olds = {**news, "resolved": {"transformers_base_image": "registry.example/glm:v1"}}
    assert kinds(plugin.diff("Image", olds, olds, news)) == {}
