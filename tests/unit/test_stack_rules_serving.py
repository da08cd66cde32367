"""Flags fit the model and each other, the container serves, AITER is on; pins and versions."""

import datetime
import pathlib
from typing import Any

import pytest
import yaml

from fleet.stack import rules
from fleet.stack.rules import models, pins
from policies import rules as policies
from tests.support.builders import COMMIT, bf16, names, rule_findings, spread


@pytest.mark.parametrize(
    "image", ["registry.example/vllm", "registry.example/vllm:v0.31.0", "vllm@sha256:abc", "vllm:"]
)
def test_an_image_is_named_by_digest(image: str) -> None:
    values = bf16() | {"transformers_base_image": image}
    assert rule_findings(values) == [("pinned", "transformers_base_image", "an image without digest")]


@pytest.mark.parametrize("name", ["transformers_commit", "weights_revision"])
@pytest.mark.parametrize("value", ["main", COMMIT[:12]])
def test_a_branch_or_a_short_commit_is_no_pin(name: str, value: str) -> None:
    assert rule_findings(bf16() | {name: value}) == [("pinned", name, "not a full commit")]


def test_a_variable_without_a_usable_default_must_be_set() -> None:
    assert not list(pins.named.check(rules.MachinePlan(bf16(), 8)))
    plan = rules.MachinePlan(bf16() | {"weights_revision": ""}, 8)
    assert [finding.key for finding in pins.named.check(plan)] == ["weights_revision"]


@pytest.mark.parametrize(
    ("endpoint", "needed"),
    [
        (None, False),
        ("https://huggingface.co/", False),
        ("http://huggingface.co", True),
        ("https://hub.example", True),
        ("https://huggingface.co.example", True),
        ("https://huggingface.co@hub.example", True),
    ],
)
def test_weights_of_another_hub_are_named_file_by_file(endpoint: str | None, needed: bool) -> None:
    values = bf16() | ({"weights_endpoint": endpoint} if endpoint else {})
    assert [finding.key for finding in pins.weights_listed.check(rules.MachinePlan(values, 8))] == [
        "weights_manifest"
    ] * needed
    named = values | {"weights_manifest": {"config.json": "ab" * 32}}
    assert not list(pins.weights_listed.check(rules.MachinePlan(named, 8)))


def test_a_login_of_the_hub_is_not_shown() -> None:
    values = bf16() | {"weights_endpoint": "https://me:word@hub.example/a"}
    (finding,) = pins.weights_listed.check(rules.MachinePlan(values, 8))
    assert finding.seen == "empty, and the weights come from https://hub.example"


def test_the_trusted_hub_is_the_roles_default_and_the_one_in_its_vars() -> None:
    role = pathlib.Path(__file__).parents[2] / "roles" / "weights"
    assert yaml.safe_load((role / "vars" / "main.yml").read_text())["_weights_hub"] == pins.HUB
    assert yaml.safe_load((role / "defaults" / "main.yml").read_text())["weights_endpoint"] == pins.HUB


def test_automatic_tool_choice_needs_a_parser() -> None:
    assert "tools-have-parser" in names(bf16(tool_call_parser=None))
    assert "tools-have-parser" not in names(bf16(tool_call_parser=None, enable_auto_tool_choice=None))


@pytest.mark.parametrize("flag", ["tool_call_parser", "reasoning_parser"])
@pytest.mark.parametrize(("value", "wrong"), [("glm45", False), ("glm47", True), ("hermes", True)])
def test_tool_calls_and_thoughts_are_parsed_as_the_model_writes_them(flag: str, value: str, wrong: bool) -> None:
    assert ("parsers-of-glm" in names(bf16(**{flag: value}))) is wrong


def test_a_parser_without_automatic_choice_is_a_finding() -> None:
    assert names(bf16(enable_auto_tool_choice=False)) == ["parsers-of-glm"]


def test_no_context_is_longer_than_the_models() -> None:
    assert names(bf16(max_model_len=131072)) == []
    assert names(bf16(max_model_len=131073)) == ["context-of-model"]


@pytest.mark.parametrize(
    ("flag", "value", "read"),
    [
        ("limit_mm_per_prompt", '{"image": 16, "video": 1}', True),
        ("limit_mm_per_prompt", {"image": 16}, True),
        ("limit_mm_per_prompt", '{"video": {"count": 1, "num_frames": 32}}', True),
        ("limit_mm_per_prompt", '{"video": 0}', True),
        ("limit_mm_per_prompt", "video=1", False),
        ("limit_mm_per_prompt", '{"videos": 1}', False),
        ("limit_mm_per_prompt", '{"video": -1}', False),
        ("media_io_kwargs", '{"video": {"num_frames": 32}}', True),
        ("media_io_kwargs", '{"video": {"num_frames": 0}}', False),
        ("media_io_kwargs", '{"video": 32}', False),
        ("media_io_kwargs", "{video: 32}", False),
    ],
)
def test_limits_of_media_have_the_form_that_vllm_reads(flag: str, value: Any, read: bool) -> None:
    assert names(bf16(**{flag: value})) == ([] if read else ["media-limits-read"])


@pytest.mark.parametrize(
    ("limit", "frames", "wrong"),
    [(None, -1, True), ('{"image": 16}', -1, True), ('{"video": 1}', -1, False), (None, 32, False)],
)
def test_videos_have_a_bound(limit: str | None, frames: int, wrong: bool) -> None:
    values = bf16(media_io_kwargs=f'{{"video": {{"num_frames": {frames}}}}}', limit_mm_per_prompt=limit)
    assert names(values) == (["videos-bounded"] if wrong else [])


@pytest.mark.parametrize(
    ("words", "serves"),
    [
        (["vllm", "serve"], True),
        (["/opt/venv/bin/vllm", "serve"], True),
        (["python3", "-m", "vllm.entrypoints.openai.api_server"], True),
        (["numactl", "--interleave=all", "vllm", "serve"], True),
        (["serve"], False),
        (["sh", "-c", "exec vllm serve --trust-remote-code"], False),
        (["sh", "-c", "exec $0 $@", "vllm", "serve"], False),
        (["bash"], False),
        (["vllm", "bench"], False),
    ],
)
def test_the_container_runs_the_server(words: list[str], serves: bool) -> None:
    assert names(bf16() | {"vllm_entrypoint": words}) == ([] if serves else ["entrypoint-serves"])


@pytest.mark.parametrize(
    ("repository", "maintained"),
    [
        ("vllm/vllm-openai-rocm", True),
        ("registry.example:5000/vllm/vllm-openai-rocm", True),
        ("rocm/vllm", False),
        ("registry.example:5000/rocm/vllm-dev", False),
        ("registry.example/rocm/vllm-own", True),
    ],
)
def test_the_image_belongs_to_a_maintained_family(repository: str, maintained: bool) -> None:
    values = bf16() | {"transformers_base_image": f"{repository}@sha256:{'ab' * 32}"}
    assert names(values) == ([] if maintained else ["image-maintained"])


@pytest.mark.parametrize(("value", "wrong"), [("1", False), (1, False), ("0", True), (None, True)])
def test_aiter_is_on(value: Any, wrong: bool) -> None:
    environment = {} if value is None else {"VLLM_ROCM_USE_AITER": value}
    assert names(bf16() | {"vllm_environment": environment}) == (["aiter-on"] if wrong else [])


@pytest.mark.parametrize(
    ("folder", "kept"), [("/var/cache/vllm/vllm", True), ("/tmp/vllm", False), ("/var/cache/vllm2", False)]
)
def test_compiled_kernels_stay_with_their_image(folder: str, kept: bool) -> None:
    values = bf16()
    values["vllm_environment"]["VLLM_CACHE_ROOT"] = folder
    assert names(values) == ([] if kept else ["caches-kept"])


@pytest.mark.parametrize(
    ("version", "findings"),
    [
        ("0.11.2", ["vllm-knows-model"]),
        ("0.12.0", ["vllm-knows-model", "vllm-works"]),
        ("0.13.0", ["vllm-works"]),
        ("0.14.0", []),
        ("0.32.0+rocm723", []),
        ("", []),
    ],
)
def test_a_vllm_knows_the_model_and_works_with_it(version: str, findings: list[str]) -> None:
    assert names(bf16() | {"transformers_base_vllm": version}) == findings
    assert names(spread("lab/GLM-4.6V", 1) | {"transformers_base_vllm": version, "vllm_shm_size": "4g"}) == []


@pytest.mark.parametrize("name", ["models", "versions"])
def test_dated_facts_were_compared_with_their_sources_within_120_days(name: str) -> None:
    checked = datetime.date.fromisoformat(models.read(name)["checked"])
    age = datetime.datetime.now(tz=datetime.UTC).date() - checked
    assert age <= datetime.timedelta(days=120), (
        f"compare fleet/stack/rules/data/{name}.yml with its sources, then write the day"
    )


def test_every_rule_has_its_own_name_a_reason_and_a_source() -> None:
    every = [*rules.RULES, *rules.UNLESS_SUPPLIED]
    names = [rule.name for rule in (*every, *policies.RULES)]  # a waiver names one of either
    assert len(set(names)) == len(names), "two rules of fleet/stack/rules/ and policies/rules/ have one name"
    for rule in every:
        assert rule.holds.endswith("."), f"{rule.name}: `holds` is a sentence"
        assert rule.reason and rule.source, f"{rule.name}: add `reason` and `source`"


@pytest.mark.parametrize(
    ("domains", "network", "wrong"),
    [
        (["media.example"], "none", True),
        ("media.example", "none", True),
        (["none.invalid", "media.example"], "none", True),
        (["none.invalid"], "none", False),
        ("none.invalid", "none", False),
        ([], "none", False),
        (["media.example"], "bridge", False),
        (["media.example"], "host", False),
    ],
)
def test_media_hosts_need_a_network(domains: Any, network: str, wrong: bool) -> None:
    values = bf16(allowed_media_domains=domains) | {"vllm_network": network}
    seen = "requests may name media.example, which a container without a network does not reach"
    assert rule_findings(values) == ([("media-hosts-reached", "vllm_network", seen)] if wrong else [])


@pytest.mark.parametrize(
    ("home", "kept"), [("/run/vllm", False), ("/var/cache/vllm2", False), ("/var/cache/vllm/home", True)]
)
def test_aiter_builds_code_where_it_can_be_loaded(home: str, kept: bool) -> None:
    assert names(bf16() | {"vllm_home": home}) == ([] if kept else ["caches-kept"])


def test_a_stack_without_vllm_network_has_no_network() -> None:
    assert names(bf16(allowed_media_domains=["media.example"])) == ["media-hosts-reached"]
    assert names(bf16(allowed_media_domains=["media.example"]) | {"vllm_host_network": True}) == []
