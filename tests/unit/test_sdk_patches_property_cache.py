"""The policy library reads a resource once for all rules; each rule still sees that resource's own properties.

fleet/sdk_patches/property_cache.py, under the library's own servicer.
"""

from concurrent import futures
from typing import Any
from unittest import mock

import pytest
from google.protobuf import json_format
from pulumi.runtime.proto import analyzer_pb2
from pulumi_policy import EnforcementLevel, ReportViolation, ResourceValidationArgs, ResourceValidationPolicy, policy

from fleet.sdk_patches import property_cache

RULES = ("first", "second", "third")


def request(number: int) -> analyzer_pb2.AnalyzeRequest:
    message = analyzer_pb2.AnalyzeRequest(type="fleet:index:Node", urn=f"urn::{number}", name=f"glm-{number}")
    message.properties.update({"number": number, "vars": {"list": [number, {"deep": number}]}})
    message.provider.type = "pulumi:providers:fleet"
    message.provider.properties.update({"number": -number})
    return message


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """The library's own function from a message to a dictionary, counted."""
    count = mock.Mock(side_effect=json_format.MessageToDict)
    monkeypatch.setattr(json_format, "MessageToDict", count)
    return count


@pytest.fixture
def servicer(monkeypatch: pytest.MonkeyPatch, parse: mock.Mock) -> Any:
    """The library's, with three rules that report their arguments; the end of the test undoes `apply`."""
    for name in ("json_format", "deserialize_properties", "unknown_checking_proxy"):
        monkeypatch.setattr(policy, name, getattr(policy, name))

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        deep = args.props["vars"]["list"][1]["deep"]
        assert args.provider is not None
        report(f"{args.name}: {args.props['number']:g} {deep:g} {args.provider.props['number']:g}", None)

    rules = [ResourceValidationPolicy(name, name, validate) for name in RULES]
    return policy._PolicyAnalyzerServicer("pack", "1", rules, EnforcementLevel.ADVISORY)


def messages(servicer: Any, number: int) -> list[str]:
    diagnostics = servicer.Analyze(request(number), None).diagnostics
    return [diagnostic.message.partition("\n")[2] for diagnostic in diagnostics]


def test_the_patched_library_reads_a_resource_and_its_provider_once_for_all_rules(
    servicer: Any, parse: mock.Mock
) -> None:
    property_cache.apply()
    messages(servicer, 7)
    assert parse.call_count == 2


def test_the_library_reads_a_resource_again_for_each_rule(servicer: Any, parse: mock.Mock) -> None:
    messages(servicer, 7)
    needed = parse.call_count == 2 * len(RULES)
    assert needed, "fleet/sdk_patches/property_cache.py is no longer needed: delete it, but for `latest`"


def test_each_rule_reads_a_resources_own_properties_on_every_thread(servicer: Any) -> None:
    property_cache.apply()
    with futures.ThreadPoolExecutor(4) as pool:
        reports = [*pool.map(lambda number: messages(servicer, number), range(200))]
    assert reports == [[f"glm-{number}: {number} {number} {-number}"] * len(RULES) for number in range(200)]


def test_the_cache_keeps_a_thing_for_each_way_to_read_it() -> None:
    read = property_cache.latest(lambda about, way="plain": (way, about))
    thing: dict[str, int] = {}
    assert [read(thing), read(thing, "secret"), read(thing)] == [("plain", {}), ("secret", {}), ("plain", {})]
