"""What the pack reads out of a stack's configuration: policies/stack.py."""

import datetime
import json

import pytest

from policies import stack
from policies.stack import Waiver

LAST = datetime.date(2026, 12, 31)


def read(**told: object) -> stack.Stack:
    config = {f"glm-fleet:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
    return stack.read("glm-fleet", config, {"glm-fleet:weights_token"})


def test_it_reads_source_waivers_and_released_machines() -> None:
    found = read(
        nodes={"source": "ssh", "machines": {}},
        waivers={"no-ptrace": {"reason": "profile", "expires": "2026-12-31"}},
        release={"prod-4": "mainboard replaced"},
    )
    assert (found.source, found.lab) == ("ssh", False)
    assert found.waivers == {"no-ptrace": Waiver("profile", LAST)}
    assert found.release == {"prod-4": "mainboard replaced"}


def test_a_date_that_yaml_recognised_is_one_too() -> None:
    told = {"no-ptrace": {"reason": "profile", "expires": "2026-12-31 00:00:00 +0000 UTC"}}
    assert read(waivers=told).waivers["no-ptrace"].expires == LAST


@pytest.mark.parametrize(
    "told",
    [
        {"reason": "", "expires": "2026-12-31"},
        {"reason": " ", "expires": "2026-12-31"},
        {"expires": "2026-12-31"},
        {"reason": "profile"},
        {"reason": "profile", "expires": "soon"},
        "profile",
    ],
)
def test_a_waiver_without_reason_or_day_waives_nothing(told: object) -> None:
    assert read(waivers={"no-ptrace": told}).waivers == {}


def test_a_secret_in_clear_is_seen_by_its_name_alone() -> None:
    found = read(vllm_api_key="0123456789abcdef0123456789abcdef", weights_token="hf_abc")
    assert found.clear == {"vllm_api_key"}
    assert "0123" not in repr(found)


def test_the_labs_source_is_the_lab() -> None:
    assert read(nodes={"source": "lab"}).lab


@pytest.mark.parametrize("config", [{}, {"glm-fleet:nodes": "{"}, {"glm-fleet:waivers": "[]"}, {"other:nodes": "{}"}])
def test_what_it_cannot_read_counts_as_not_said(config: dict[str, str]) -> None:
    assert stack.read("glm-fleet", config, ()) == stack.Stack()
