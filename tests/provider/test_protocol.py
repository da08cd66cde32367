"""The Pulumi engine's requests before it touches a resource: handshake, configuration, check."""

import subprocess
import sys

import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2

from tests.support.plugin import UNKNOWN, Plugin, Props, plain, struct, urn

NODE = {"name": "glm-1", "address": "192.0.2.1", "host_key": "ssh-ed25519 AAAA", "port": 22}
HOST = {"node": NODE, "roles": {"host": "1  tasks/main.yml"}, "vars": {"host_sysctls": {"vm.swappiness": 10}}}


def test_a_plugin_s_start_does_not_run_the_sdk() -> None:
    """Neither its first imports nor its later ones; a resource's parts of fleet.stack and fleet.impact import no Pulumi."""
    later = "fleet.provider.plugin, fleet.probes, lab.provider.resources, sys"
    show = "print(*[name for name in sys.modules if re.match('pulumi(?!.runtime.proto)', name)])"
    output = subprocess.check_output(
        [sys.executable, "-c", f"from fleet.sdk_patches import sdk_stub; sdk_stub.apply(); import re, {later}; {show}"],
        text=True,
    )
    assert output.split() == ["pulumi", "pulumi.runtime"]


def test_a_plugin_s_start_reads_no_yaml() -> None:
    """Only a prediction does: it reads the roles."""
    start = "import sys; from fleet.sdk_patches import sdk_stub; sdk_stub.apply(); import fleet.provider.plugin"
    output = subprocess.check_output([sys.executable, "-c", f"{start}; print('yaml' in sys.modules)"], text=True)
    assert output == "False\n"


def test_the_plugin_answers_a_handshake_and_reports_its_version(plugin: Plugin) -> None:
    assert plugin.stub.Handshake(provider_pb2.ProviderHandshakeRequest(engine_address="127.0.0.1:1"))
    assert plugin.stub.GetPluginInfo(empty_pb2.Empty()).version == "0.1.0"


@pytest.mark.parametrize("args", [{}, {"parallel": 2}, {"parallel": "2"}])
def test_it_previews_and_leaves_secrets_to_the_pulumi_engine_with_any_configuration(
    plugin: Plugin, args: Props
) -> None:
    check = plugin.stub.CheckConfig(provider_pb2.CheckRequest(news=struct(args)))
    assert plain(check.inputs) == args
    answer = plugin.stub.Configure(provider_pb2.ConfigureRequest(args=struct(args)))
    assert answer.supportsPreview
    assert not answer.acceptSecrets


@pytest.mark.parametrize(("parallel", "changes"), [(4, "DIFF_NONE"), (8, "DIFF_SOME")])
def test_another_number_of_parallel_runs_is_a_change_and_replaces_nothing(
    plugin: Plugin, parallel: int, changes: str
) -> None:
    """Without a change the engine would keep the old number."""
    old = struct({"parallel": 4})
    request = provider_pb2.DiffRequest(old_inputs=old, olds=old, news=struct({"parallel": parallel}))
    answer = plugin.stub.DiffConfig(request)
    assert provider_pb2.DiffResponse.DiffChanges.Name(answer.changes) == changes
    assert list(answer.replaces) == []


@pytest.mark.parametrize(
    ("kind", "news"),
    [
        ("Node", NODE),
        ("Node", {**NODE, "address": UNKNOWN, "host_key": UNKNOWN}),
        ("Host", HOST),
        ("Serving", {**HOST, "node": UNKNOWN, "vars": UNKNOWN}),
    ],
)
def test_a_check_returns_a_right_form_unchanged(plugin: Plugin, kind: str, news: Props) -> None:
    answer = plugin.check(kind, news)
    assert plain(answer.inputs) == news
    assert list(answer.failures) == []


@pytest.mark.parametrize(
    ("kind", "news", "wrong"),
    [
        ("Node", {**NODE, "address": "", "host_key": ""}, {"address": "is required", "host_key": "is required"}),
        ("Host", {**HOST, "node": "glm-1"}, {"node": "must be an object"}),
        ("Image", {**HOST, "roles": ["host"]}, {"roles": "must be an object"}),
        ("Weights", {"node": NODE}, {"roles": "must be an object"}),
        ("Serving", {**HOST, "vars": 1}, {"vars": "must be an object"}),
    ],
)
def test_a_check_names_the_property_of_a_wrong_form(plugin: Plugin, kind: str, news: Props, wrong: Props) -> None:
    assert {failure.property: failure.reason for failure in plugin.check(kind, news).failures} == wrong


def test_inputs_that_a_failure_elsewhere_left_out_keep_their_old_values(plugin: Plugin) -> None:
    """Else a second message would appear beside the failure's, and a missing node would replace its resources."""
    answer = plugin.stub.Check(
        provider_pb2.CheckRequest(urn=urn("Serving"), olds=struct(HOST), news=struct({"roles": HOST["roles"]}))
    )
    assert (plain(answer.inputs), list(answer.failures)) == (HOST, [])
    for kind, news in (("Serving", {"roles": HOST["roles"]}), ("Node", {"name": "glm-1"})):
        assert list(plugin.check(kind, news).failures) == []
