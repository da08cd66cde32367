"""What the pack reads from a stack's configuration and its file: policies/stack.py."""

import datetime
import json

import pytest
import yaml

from fleet.findings import Waiver
from policies import stack

LAST = datetime.date(2026, 12, 31)


def read(**config: object) -> stack.Stack:
    """Read a configuration as the Pulumi engine sends it: texts, objects as JSON."""
    return stack.read({f"glm-fleet:{key}": json.dumps(value) for key, value in config.items()})


def test_the_pack_reads_source_waivers_released_machines_and_purges() -> None:
    settings = read(
        nodes={"source": "ssh", "machines": {}},
        waivers={"no-ptrace": {"reason": "profile", "expires": "2026-12-31"}},
        release={"prod-4": "mainboard replaced"},
        purge=["weights"],
    )
    assert (settings.source, settings.lab) == ("ssh", False)
    assert settings.waivers == {"no-ptrace": Waiver("profile", LAST)}
    assert settings.release == {"prod-4": "mainboard replaced"}
    assert settings.purge == ("weights",)


def test_the_pack_reads_a_date_of_yaml() -> None:
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


def test_a_waiver_counts_to_the_end_of_its_last_day() -> None:
    waiver, day = Waiver("profile", LAST), datetime.timedelta(1)
    assert [waiver.in_force(today) for today in (LAST - day, LAST, LAST + day)] == [True, True, False]


def test_the_pack_keeps_the_name_of_a_secret_in_clear_and_not_its_value() -> None:
    key = "0123456789abcdef0123456789abcdef"
    file = {"config": {"glm-fleet:vllm_api_key": key, "glm-fleet:weights_token": {"secure": "v1:abc"}}}
    settings = stack.read({}, yaml.safe_dump(file))
    assert settings.clear == {"vllm_api_key"}
    assert "0123" not in repr(settings)


def test_the_stack_with_the_source_lab_is_the_lab() -> None:
    assert read(nodes={"source": "lab"}).lab


@pytest.mark.parametrize("config", [{}, {"glm-fleet:nodes": "{"}, {"glm-fleet:waivers": "[]"}, {"other:nodes": "{}"}])
@pytest.mark.parametrize("file", ["", "config:\n", "encryptionsalt: v1:abc"])
def test_the_pack_ignores_an_unreadable_key(config: dict[str, str], file: str) -> None:
    assert stack.read(config, file) == stack.Stack()


def test_a_stack_has_its_own_file_or_none() -> None:
    assert "source: lab" in stack.file_of("lab")
    assert stack.file_of("nowhere") == stack.file_of("") == ""
