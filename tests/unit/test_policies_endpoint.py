"""Production has two gateways, certificates hold, and each client has a key of its own: policies/rules/endpoint.py."""

import datetime
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from fleet import certificates, findings
from policies import stack
from policies.stack import Stack
from tests.support.policy_resources import KEY, PROD, context, messages, only_message

TODAY = datetime.date(2026, 12, 1)


@pytest.mark.parametrize(
    ("name", "production"),
    [
        ("prod", True),
        ("prod-eu", True),
        ("production", True),
        ("dr", True),
        ("product", False),
        ("dev", False),
        ("", False),
    ],
)
def test_a_stack_is_for_production_by_its_name(name: str, production: bool) -> None:
    assert replace(PROD, name=name).production is production


@pytest.mark.parametrize(
    ("gateways", "message"),
    [
        ((), "the stack has no gateway: each client needs an SSH tunnel"),
        (("prod-1",), "prod-1 is the only gateway: while it restarts, no client reaches the fleet"),
        (("prod-1", "prod-2"), ""),
    ],
)
def test_production_has_two_gateways(gateways: tuple[str, ...], message: str) -> None:
    about = context("Stack", stack=replace(PROD, name="prod", gateways=gateways))
    assert [text[: len(message)] for text in messages("gateways-in-production", about)] == (
        [message] if message else []
    )
    other = context("Stack", stack=replace(PROD, name="staging", gateways=gateways))
    assert messages("gateways-in-production", other) == []


def test_the_pack_reads_name_and_gateways_of_a_stack() -> None:
    read = stack.read({"glm-fleet:gateway": '{"nodes": ["prod-1", "prod-2"], "name": "glm.example.com"}'}, "", "prod")
    assert (read.name, read.gateways) == ("prod", ("prod-1", "prod-2"))
    assert stack.read({"glm-fleet:gateway": '{"nodes": "prod-1"}'}) == Stack()


def chain(days: int) -> str:
    """Return a certificate that ends so many days after today."""
    at = datetime.datetime.combine(TODAY, datetime.time(), datetime.UTC) + datetime.timedelta(days - certificates.DAYS)
    authority, private = certificates.new_authority("another", at)
    return certificates.issue(
        certificates.Wanted("server", "glm.example.com", ("glm.example.com",)), authority, private, at
    )


@pytest.mark.parametrize(("days", "refused"), [(14, False), (13, True), (0, True), (-3, True)])
def test_an_own_certificate_holds_for_two_weeks(monkeypatch: pytest.MonkeyPatch, days: int, refused: bool) -> None:
    monkeypatch.setattr(findings, "today", lambda: TODAY)
    lines = messages("certificate-holds", context("Gateway", chain=chain(days)))
    day = TODAY + datetime.timedelta(days)
    assert [line.partition(": ")[0] for line in lines] == (
        [f"the gateway's own certificate ends on {day}, in {max(days, 0)} days"] if refused else []
    )


@pytest.mark.parametrize("pem", [None, "", "no certificate"])
def test_the_program_reports_a_chain_that_cannot_be_read(pem: str | None) -> None:
    assert messages("certificate-holds", context("Gateway", chain=pem)) == []


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.mark.parametrize(
    ("sha256", "message"),
    [
        (digest(""), "clients.team-b.sha256 is that of an empty key: whoever has that key is this client"),
        (digest(KEY), "clients.team-b.sha256 is that of the replicas' own API key: "),
        ("glm-a-key-in-clear", "clients.team-b.sha256 is no SHA-256: no key has it, or it is a key in clear"),
        ("5F" * 32, "clients.team-b.sha256 is no SHA-256: "),
        (None, "clients.team-b.sha256 is no SHA-256: "),
    ],
)
def test_a_client_has_a_key_of_its_own(sha256: str | None, message: str) -> None:
    clients: dict[str, Any] = {"team-a": {"sha256": "5f" * 32}, "team-b": {"sha256": sha256}}
    line = only_message("clients-have-own-keys", context("Gateway", vars={"gateway_clients": clients}))
    assert line.startswith(message)
    assert KEY not in line and "glm-a-key" not in line


def test_a_gateway_that_the_stack_releases_needs_no_protection() -> None:
    assert messages("machines-protected", context("Gateway", protect=False))
    released = replace(PROD, release={"gateway": "another balancer takes over"})
    assert messages("machines-protected", context("Gateway", protect=False, stack=released)) == []
    assert messages("machines-protected", context("Node", protect=False, stack=released))
