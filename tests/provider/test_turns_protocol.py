"""Turns over gRPC: the provider's setting, the program's calls, and the end of a wait. tests/preview has the real Pulumi engine."""

import json

import pytest
from google.protobuf import struct_pb2
from pulumi.runtime.proto import provider_pb2

from tests.support.plugin import PATIENCE, Plugin, Props, expect_error, ident, plain, struct, urn
from tests.support.serving_inputs import INPUTS, OUTPUTS, changed


def configure(plugin: Plugin, **settings: str) -> None:
    plugin.stub.Configure(provider_pb2.ConfigureRequest(args=struct(settings)))


def invoke(plugin: Plugin, function: str, **arguments: object) -> Props:
    request = provider_pb2.InvokeRequest(
        tok=f"fleet:index:{function}", args=struct({"beside": urn("Serving"), **arguments})
    )
    answer: struct_pb2.Struct = getattr(plugin.stub.Invoke(request), "return")
    return plain(answer)


def update(plugin: Plugin, connection: Props) -> "provider_pb2.UpdateResponse":
    """Request another flag, which restarts replicas; return the future."""
    old, new = ({**side, "node": connection} for side in (INPUTS, changed("vars", "vllm_flags", "seed", to=1)))
    fields = {"old_inputs": struct(old), "olds": struct({**old, **OUTPUTS}), "news": struct(new)}
    return plugin.stub.Update.future(provider_pb2.UpdateRequest(id=ident("Serving"), urn=urn("Serving"), **fields))


def test_an_update_that_interrupts_waits_for_the_census_and_a_cancel_ends_the_wait(
    fresh_plugin: Plugin, connection: Props
) -> None:
    configure(fresh_plugin, change="{}")
    future = update(fresh_plugin, connection)
    fresh_plugin.engine.hear("waits for its turn: the nodes are asked first who serves")
    fresh_plugin.cancel()
    error = future.exception(PATIENCE)
    assert error.details() == "glm-1: wait for its turn: cancelled"
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata()), "the state stays as it was"


def test_the_program_s_calls_are_answered_and_a_node_without_a_connection_is_dead(
    fresh_plugin: Plugin, connection: Props
) -> None:
    configure(fresh_plugin, change=json.dumps({"at_once": 1}))
    assert invoke(fresh_plugin, "census", order=["glm-1", "glm-2"], nodes={}) == {}
    assert invoke(fresh_plugin, "passed", node="glm-2", ok=False) == {}
    error = update(fresh_plugin, {**connection, "port": 1}).exception(PATIENCE)
    assert error.details().startswith("glm-1: connect to root@127.0.0.1:1: connection refused"), "it waits for nobody"


@pytest.mark.parametrize("setting", [{}, {"change": ""}])
def test_without_the_setting_an_update_does_not_wait(
    fresh_plugin: Plugin, connection: Props, setting: dict[str, str]
) -> None:
    configure(fresh_plugin, **setting)
    assert invoke(fresh_plugin, "census", order=["glm-1"], nodes={"glm-1": connection}) == {}
    update(fresh_plugin, connection).exception(PATIENCE)
    assert not [line for line in fresh_plugin.engine.lines if "turn" in line.message]


def test_an_upgrade_that_kubeadm_does_not_do_stops_the_preview(fresh_plugin: Plugin, connection: Props) -> None:
    configure(fresh_plugin, change="{}")

    def of_version(version: str) -> Props:
        variables = {"kubernetes_part": "worker", "kubernetes_name": "gpu-1", "kubernetes_version": version}
        return {"node": connection, "roles": {"kubernetes": ""}, "vars": variables}

    old = of_version("1.36.3")
    fields = {"old_inputs": struct(old), "olds": struct({**old, "version": "1.36.3"}), "preview": True}
    ids = {"id": "member/gpu-1", "urn": urn("Member", "gpu-1")}
    request = provider_pb2.UpdateRequest(**ids, **fields, news=struct(of_version("1.38.0")))
    assert expect_error(fresh_plugin.stub.Update, request).details().splitlines() == [
        "gpu-1: upgrade Kubernetes: it has 1.36.3, and kubernetes_version is 1.38.0",
        "  wanted: the newest 1.37 before: kubeadm skips none",
        "  next:   set kubernetes_version to the newest 1.37; then `pulumi up`",
    ]
    request = provider_pb2.UpdateRequest(**ids, **fields, news=struct(of_version("1.37.2")))
    assert plain(fresh_plugin.stub.Update(request).properties)["version"] == "1.37.2"
