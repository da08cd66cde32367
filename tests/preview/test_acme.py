"""The real Pulumi engine with certificates by ACME: what the setting adds, what takes it away, and where the account's key is in the state.

The machines are imaginary, and the tests are steps: each goes on where the one before it stopped. Needs `pulumi` on PATH.
"""

import json
from typing import Any

import pytest
import yaml

from tests.support.environment import expect_success
from tests.support.pulumi_project import Fleet, diagnostics, pulumi


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The stack prod, deployed with two gateways whose certificates are the stack's own; its file then wants ACME."""
    fleet = Fleet(tmp_path_factory.mktemp("acme"))
    fleet.set("glm-fleet:gateway.name", "glm.example.com")
    for place, node in enumerate(("prod-1", "prod-3")):
        fleet.set(f"glm-fleet:gateway.nodes[{place}]", node)
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    return fleet


def want(fleet: Fleet, **gateway: Any) -> None:
    """Write keys of the gateway into the stack file; None removes one."""
    stack = yaml.safe_load(fleet.file.read_text())
    form = {**stack["config"]["glm-fleet:gateway"], **gateway}
    stack["config"]["glm-fleet:gateway"] = {key: value for key, value in form.items() if value is not None}
    fleet.file.write_text(yaml.safe_dump(stack))


def test_a_preview_says_what_the_setting_does(fleet: Fleet) -> None:
    want(fleet, certificate="acme", acme={"terms_agreed": True})
    output = expect_success(fleet.run("preview"))
    assert "+ 1 to create" in output and "~ 2 to update" in output and "22 unchanged" in output
    line, ports = diagnostics(output).splitlines()[1:]
    assert line == (
        "  prod-1, prod-3: may reload fleet-gateway, not measured yet: "
        'gateway_acme.names unset -> ["glm.example.com"]; gateway_acme.server unset -> letsencrypt; '
        "gateway_acme.thumbprint unset -> (known later)"
    )
    assert "; 80 of prod-1, prod-3 for everybody; " in ports


def test_an_update_makes_one_key_which_is_in_clear_nowhere(fleet: Fleet) -> None:
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    for more in ((), ("--refresh",)):
        assert "25 unchanged" in expect_success(fleet.run("preview", "--expect-no-changes", *more))
    exported = expect_success(pulumi(fleet.project, "stack", "export", "-s", "prod"))
    assert "PRIVATE KEY" not in exported
    accounts = [item for item in json.loads(exported)["deployment"]["resources"] if item["type"].endswith(":Account")]
    assert [len(item["outputs"]["thumbprint"]) for item in accounts] == [43]


def test_the_setting_goes_as_it_came(fleet: Fleet) -> None:
    want(fleet, certificate=None, acme=None)
    output = expect_success(fleet.run("up", "--yes", "--skip-preview"))
    assert "- 1 deleted" in output and "~ 2 updated" in output
    assert "24 unchanged" in expect_success(fleet.run("preview", "--expect-no-changes"))
