"""Ubuntu 22.04, whose HAProxy is 2.4: its node proxy does what the others do, and a gateway there is refused before any change.

The claims are in the order of one machine's life.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import gateway_fleet, gateway_pki
from tests.support.gateway_fleet import NODE, REPLICAS, Fleet, exchange, received, request, strangers, trust
from tests.support.playbook import Run
from tests.support.role_node import KEY, Place

pytestmark = pytest.mark.exhaustive  # a lab of its own; tests/unit/test_roles_gateway_addresses.py has the message
CHAT, MODELS = "/v1/chat/completions", "/v1/models"
GATEWAY = "a-gateway"
AS_NODE: dict[str, Any] = {"gateway_faces": ["node"], "gateway_names": [GATEWAY]}
Until = Callable[..., None]


@pytest.fixture(scope="module")
def fleet(jammy: Place) -> Fleet:
    jammy.sh("apt-get -qq update")
    return Fleet({"jammy": jammy}, gateway_pki.authority())


@pytest.fixture(scope="module")
def refused(fleet: Fleet) -> Run:
    """The run that makes the bare machine a gateway, too."""
    return fleet.run("jammy")


@pytest.fixture(scope="module")
def up(fleet: Fleet, refused: Run, until: Until) -> Fleet:
    run = fleet.run("jammy", **AS_NODE)
    assert run.rc == 0, run.message
    fleet.serve("jammy", *REPLICAS)
    until(lambda: all(row["status"] == "UP" for row in fleet.rows("jammy", "fleet-proxy", "replicas")))
    return fleet


def ask(up: Fleet, method: str = "GET", path: str = MODELS, **more: object) -> gateway_fleet.Answer:
    """Send one request as the gateway does."""
    right = trust(up.authority, up.authority.sign(GATEWAY, gateway_pki.CLIENT))
    return exchange(up.address("jammy"), NODE, right, request(method, path, **more))  # type: ignore[arg-type]


def test_a_gateway_is_refused_with_system_and_version_before_any_change(refused: Run) -> None:
    assert refused.changed == []
    assert re.fullmatch(
        r"Ubuntu 22\.04\.\d LTS has HAProxy 2\.4\.\d+\n"
        r"wanted: 2\.6 or later for the gateway\n"
        r"next: name machines with Debian 12, Ubuntu 24\.04 or a later system in glm-fleet:gateway\.nodes",
        refused.message,
    )


def test_a_second_run_changes_nothing(up: Fleet) -> None:
    second = up.run("jammy", **AS_NODE)
    assert (second.rc, second.changed) == (0, [])
    assert second.results["fleet_gateway"]["version"].startswith("2.4.")


def test_it_answers_the_gateways_of_the_stack_alone(up: Fleet) -> None:
    for claim, stranger in strangers(up.authority, GATEWAY, up.node_pems["jammy"]).items():
        assert received(up.address("jammy"), NODE, request("GET", MODELS), stranger) == b"", claim
    answer = ask(up, "POST", CHAT, key="a key of a client", body={"n": "x" * 3_000_000})
    assert json.loads(answer.body)["bytes"] == 3_000_009
    assert json.loads(answer.body)["headers"]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", MODELS, (), 200),
        ("GET", "/ready", (), 200),
        ("GET", "/metrics", (), 404),
        ("GET", "/v1/../tokenize", (), 404),
        ("GET", "//v1/models", (), 404),
        ("GET", CHAT, (), 405),
        ("POST", CHAT, (), 411),
        ("POST", CHAT, ("Transfer-Encoding: chunked",), 411),
        ("POST", CHAT, ("Content-Length: 80000000",), 413),
    ],
)
def test_it_has_exact_paths_and_limits(
    up: Fleet, method: str, path: str, headers: tuple[str, ...], status: int
) -> None:
    assert ask(up, method, path, headers=headers).status == status


def test_a_drain_survives_reload_and_restart_and_the_gateways_are_known(up: Fleet) -> None:
    up.admin("jammy", "set server admission/node state maint")
    try:
        for command in ("true", "systemctl reload fleet-proxy", "systemctl restart fleet-proxy"):
            up.places["jammy"].sh(command)
            assert ask(up, path="/ready").status == 404, command
            assert f"key={GATEWAY} " in up.admin("jammy", "show table gateways"), command
    finally:
        up.admin("jammy", "set server admission/node state ready")
    assert ask(up, path="/ready").status == 200


def test_without_a_replica_it_accepts_no_request(up: Fleet, until: Until) -> None:
    up.places["jammy"].sh("systemctl kill --signal=KILL stand-0 stand-1")
    until(lambda: ask(up).status == 0)
