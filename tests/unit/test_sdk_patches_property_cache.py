"""A resource is read once for all rules, by Pulumi's policy library itself; each resource is still judged by its own properties.

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
    made = analyzer_pb2.AnalyzeRequest(type="fleet:index:Node", urn=f"urn::{number}", name=f"glm-{number}")
    made.properties.update({"number": number, "vars": {"list": [number, {"deep": number}]}})
    made.provider.type = "pulumi:providers:fleet"
    made.provider.properties.update({"number": -number})
    return made


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """The library's own way from a message to a dictionary, counted."""
    count = mock.Mock(side_effect=json_format.MessageToDict)
    monkeypatch.setattr(json_format, "MessageToDict", count)
    return count


@pytest.fixture
def servicer(monkeypatch: pytest.MonkeyPatch, parse: mock.Mock) -> Any:
    """The library's, with three rules that report what they were given; what `apply` changed is undone after the test."""
    for name in ("json_format", "deserialize_properties", "unknown_checking_proxy"):
        monkeypatch.setattr(policy, name, getattr(policy, name))

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        deep = args.props["vars"]["list"][1]["deep"]
        assert args.provider is not None
        report(f"{args.name}: {args.props['number']:g} {deep:g} {args.provider.props['number']:g}", None)

    rules = [ResourceValidationPolicy(name, name, validate) for name in RULES]
    return policy._PolicyAnalyzerServicer("pack", "1", rules, EnforcementLevel.ADVISORY)


def told(servicer: Any, number: int) -> list[str]:
    return [one.message.partition("\n")[2] for one in servicer.Analyze(request(number), None).diagnostics]


def test_a_resource_and_its_provider_are_read_once_for_all_rules(servicer: Any, parse: mock.Mock) -> None:
    property_cache.apply()
    told(servicer, 7)
    assert parse.call_count == 2


def test_the_library_reads_a_resource_again_for_each_rule(servicer: Any, parse: mock.Mock) -> None:
    told(servicer, 7)
    assert parse.call_count == 2 * len(RULES), (
        "fleet/sdk_patches/property_cache.py has no use any more: delete it, but for `latest`"
    )


def test_each_resource_is_judged_by_its_own_properties_on_every_thread(servicer: Any) -> None:
    property_cache.apply()
    with futures.ThreadPoolExecutor(4) as pool:
        seen = [*pool.map(lambda number: told(servicer, number), range(200))]
    assert seen == [[f"glm-{number}: {number} {number} {-number}"] * len(RULES) for number in range(200)]


def test_how_a_thing_is_read_is_part_of_what_is_known_of_it() -> None:
    read = property_cache.latest(lambda about, way="plain": (way, about))
    thing: dict[str, int] = {}
    assert [read(thing), read(thing, "secret"), read(thing)] == [("plain", {}), ("secret", {}), ("plain", {})]
