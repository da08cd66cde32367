"""What the pack reads out of a stack's configuration and its file: policies/stack.py."""

import datetime
import json

import pytest
import yaml

from fleet.findings import Waiver
from policies import stack

LAST = datetime.date(2026, 12, 31)


def read(**config: object) -> stack.Stack:
    """Read a configuration as the engine hands it over: texts, objects as JSON."""
    return stack.read({f"glm-fleet:{key}": json.dumps(value) for key, value in config.items()})


def test_it_reads_source_waivers_and_released_machines() -> None:
    parsed = read(
        nodes={"source": "ssh", "machines": {}},
        waivers={"no-ptrace": {"reason": "profile", "expires": "2026-12-31"}},
        release={"prod-4": "mainboard replaced"},
        purge=["weights"],
    )
    assert (parsed.source, parsed.lab) == ("ssh", False)
    assert parsed.waivers == {"no-ptrace": Waiver("profile", LAST)}
    assert parsed.release == {"prod-4": "mainboard replaced"}
    assert parsed.purge == ("weights",)


def test_a_date_that_yaml_recognised_is_one_too() -> None:
    waivers = {"no-ptrace": {"reason": "profile", "expires": "2026-12-31 00:00:00 +0000 UTC"}}
    assert read(waivers=waivers).waivers["no-ptrace"].expires == LAST


@pytest.mark.parametrize(
    "waiver",
    [
        {"reason": "", "expires": "2026-12-31"},
        {"reason": " ", "expires": "2026-12-31"},
        {"expires": "2026-12-31"},
        {"reason": "profile"},
        {"reason": "profile", "expires": "soon"},
        "profile",
    ],
)
def test_a_waiver_without_reason_or_day_waives_nothing(waiver: object) -> None:
    assert read(waivers={"no-ptrace": waiver}).waivers == {}


def test_a_waiver_counts_up_to_and_on_its_last_day() -> None:
    waiver, day = Waiver("profile", LAST), datetime.timedelta(1)
    assert [waiver.in_force(today) for today in (LAST - day, LAST, LAST + day)] == [True, True, False]


def test_a_secret_in_clear_is_seen_by_its_name_alone() -> None:
    key = "0123456789abcdef0123456789abcdef"
    file = {"config": {"glm-fleet:vllm_api_key": key, "glm-fleet:weights_token": {"secure": "v1:abc"}}}
    parsed = stack.read({}, yaml.safe_dump(file))
    assert parsed.clear == {"vllm_api_key"}
    assert "0123" not in repr(parsed)


def test_the_labs_source_is_the_lab() -> None:
    assert read(nodes={"source": "lab"}).lab


@pytest.mark.parametrize("config", [{}, {"glm-fleet:nodes": "{"}, {"glm-fleet:waivers": "[]"}, {"other:nodes": "{}"}])
@pytest.mark.parametrize("file", ["", "config:\n", "encryptionsalt: v1:abc"])
def test_what_it_cannot_read_counts_as_not_said(config: dict[str, str], file: str) -> None:
    assert stack.read(config, file) == stack.Stack()


def test_a_stack_has_a_file_of_its_own_or_none() -> None:
    assert "source: lab" in stack.file_of("lab")
    assert stack.file_of("nowhere") == stack.file_of("") == ""
