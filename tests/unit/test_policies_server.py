"""The pack as the engine sees it, over gRPC's own messages: policies/server.py. Each stack's program passes with all of it."""

import datetime
import json
import signal
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime import mocks
from pulumi.runtime.proto import analyzer_pb2

from policies import server
from policies.rules import RULES
from tests.policies import DIGEST, KEY, RIGHT, UNKNOWN
from tests.unit import test_plan_program as program

ANY: Any = None  # a context that nothing here asks
SECRET = {server.SIGN: server.SECRET, "value": KEY}


def analyzer(**told: Any) -> server.Analyzer:
    """Return an analyzer of a stack that is set up as told; from ssh machines unless said otherwise."""
    made = server.Analyzer(datetime.date(2026, 11, 25))
    config = {f"glm-fleet:{key}": json.dumps(value) for key, value in {"nodes": {"source": "ssh"}, **told}.items()}
    request = analyzer_pb2.AnalyzerStackConfigureRequest(project="glm-fleet", stack="prod", config=config)
    made.ConfigureStack(request, ANY)
    return made


def request(kind: str, name: str = "prod-1", protect: bool = True, **inputs: Any) -> analyzer_pb2.AnalyzeRequest:
    properties = struct_pb2.Struct()
    properties.update(inputs)
    options = analyzer_pb2.AnalyzerResourceOptions(protect=protect)
    token = f"fleet:index:{kind}"
    return analyzer_pb2.AnalyzeRequest(
        type=token, urn=f"urn::{kind}::{name}", name=name, properties=properties, options=options
    )


def serving(**changes: Any) -> dict[str, Any]:
    return {**RIGHT["Serving"], "api_key": SECRET, **changes}


def told(response: analyzer_pb2.AnalyzeResponse) -> list[tuple[str, str]]:
    return [(one.policyName, analyzer_pb2.EnforcementLevel.Name(one.enforcementLevel)) for one in response.diagnostics]


def test_the_engine_is_told_every_rule() -> None:
    info = analyzer().GetAnalyzerInfo(empty_pb2.Empty(), ANY)
    assert [policy.name for policy in info.policies] == [*(rule.name for rule in RULES), "waivers"]
    assert all(policy.description for policy in info.policies)


def test_a_right_resource_has_no_finding_and_a_secret_is_seen_as_one() -> None:
    assert told(analyzer().Analyze(request("Serving", **serving()), ANY)) == []
    in_clear = analyzer().Analyze(request("Serving", **serving(api_key=KEY)), ANY)
    assert told(in_clear) == [("api-key-set-and-secret", "MANDATORY")]
    assert KEY not in str(in_clear)


def test_a_finding_stands_at_its_resource_with_what_the_rule_holds() -> None:
    response = analyzer().Analyze(request("Serving", **serving(image="glm:latest")), ANY)
    (found,) = response.diagnostics
    assert (found.policyPackName, found.urn) == ("glm-fleet", "urn::Serving::prod-1")
    assert found.message.splitlines()[:2] == [
        "The serving image, and the base that it is built from, are named by digest.",
        "image is 'glm:latest': a tag can name other bytes tomorrow, on one node and not on the next",
    ]


def test_protect_is_pulumis_own_option() -> None:
    node = {"name": "prod-1", "gpus": 8.0}
    assert told(analyzer().Analyze(request("Node", protect=False, **node), ANY)) == [
        ("machines-protected", "MANDATORY")
    ]
    assert told(analyzer(release={"prod-1": "why"}).Analyze(request("Node", protect=False, **node), ANY)) == []


def test_waivers_come_from_the_stacks_configuration() -> None:
    made = analyzer(waivers={"image-by-digest": {"reason": "a rehearsal", "expires": "2026-12-31"}})
    assert told(made.Analyze(request("Serving", **serving(image="glm:latest")), ANY)) == [
        ("image-by-digest", "ADVISORY")
    ]
    stack = analyzer_pb2.AnalyzeRequest(type="pulumi:pulumi:Stack", name="glm-fleet-prod")
    assert told(made.Analyze(stack, ANY)) == [("waivers", "ADVISORY")]


def test_unknown_inputs_of_a_preview_have_no_finding() -> None:
    unknown = request("Serving", image=UNKNOWN, api_key=SECRET, vars=UNKNOWN, node=UNKNOWN)
    assert told(analyzer().Analyze(unknown, ANY)) == []


def test_what_no_rule_judges_is_not_even_decoded() -> None:
    with mock.patch.object(server, "decode", side_effect=AssertionError):
        for token in ("lab:index:Machine", "pulumi:providers:fleet"):
            assert told(analyzer().Analyze(analyzer_pb2.AnalyzeRequest(type=token, name="x"), ANY)) == []
        host = analyzer_pb2.AnalyzerResource(type="fleet:index:Host", name="prod-1")
        assert told(analyzer().AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=[host]), ANY)) == []


def test_at_the_end_a_machine_is_judged_by_what_runs_there() -> None:
    made = analyzer()
    made.Analyze(request("Host", vars={"rocm_version": "7.2.3", "rocm_driver_release": "30.30.3"}), ANY)
    outputs = request("Node", facts={"system": "ubuntu 20.04", "kernel": "5.4.0-1-generic"})
    node = analyzer_pb2.AnalyzerResource(
        type=outputs.type, urn=outputs.urn, name="prod-1", properties=outputs.properties, options=outputs.options
    )
    response = made.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=[node]), ANY)
    assert told(response) == [("system-known", "MANDATORY")]
    assert [found.urn for found in response.diagnostics] == ["urn::Node::prod-1"]


def test_numbers_and_nested_values_arrive_as_they_were() -> None:
    values = {
        "a": [1.0, 2.5, {"b": None, "c": True}],
        "d": {"e": ""},
        "f": SECRET,
        "g": {"h": {**SECRET, "value": [1]}},
    }
    struct = struct_pb2.Struct()
    struct.update(values)
    plain, secret = server.decode(struct)
    assert plain == {"a": [1, 2.5, {"b": None, "c": True}], "d": {"e": ""}, "f": KEY, "g": {"h": [1]}}
    assert isinstance(plain["a"][0], int)
    assert secret == {"f"}


@pytest.fixture
def sigint() -> Iterator[None]:
    """The program takes SIGINT for itself; give it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("stack", program.STACKS)
@pytest.mark.usefixtures("sigint")
def test_every_stack_passes_with_all_that_an_update_knows(stack: str) -> None:
    """What the real program registers, its secrets as the engine sends them, the lab's with what its site tells."""
    asked: list[analyzer_pb2.AnalyzeRequest] = []
    register = mocks.MockMonitor.RegisterResource

    def listen(monitor: Any, one: Any) -> Any:
        options = analyzer_pb2.AnalyzerResourceOptions(protect=one.protect)
        asked.append(analyzer_pb2.AnalyzeRequest(type=one.type, name=one.name, properties=one.object, options=options))
        return register(monitor, one)

    values = program.config(stack)
    site = {"transformers_base_image": DIGEST, "transformers_commit": "12" * 20, "weights_revision": "34" * 20}
    with (
        mock.patch.object(mocks.MockMonitor, "RegisterResource", listen),
        mock.patch.object(program, "SITE_VARS", site),
    ):
        program.run(stack, values)
    made = analyzer(**{key.partition(":")[2]: value for key, value in values.items()})
    kinds = {one.type.rpartition(":")[2] for one in asked}
    assert {"Node", "Host", "Image", "Weights", "Serving"} <= kinds
    assert [(one.name, found) for one in asked if (found := told(made.Analyze(one, ANY)))] == []
