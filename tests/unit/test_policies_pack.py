"""The rules in one run: right resources pass, waivers hold until their day, what was seen before counts: policies/pack.py."""

import datetime
from collections.abc import Iterable
from dataclasses import replace

import pytest

from policies.asked import Asked
from policies.pack import Finding, Pack
from policies.rules import RULES
from policies.stack import Stack, Waiver
from tests.policies import KEY, PROD, RIGHT, UNKNOWN, asked, serving

TODAY = datetime.date(2026, 11, 25)
STACK = Asked("Stack", "glm-fleet-prod", {})


def pack(stack: Stack = PROD) -> Pack:
    return Pack(stack, TODAY)


def waived(name: str, expires: datetime.date) -> Stack:
    return replace(PROD, waivers={name: Waiver("profile the engine", expires)})


def lines(found: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """Return (rule, level, first line of the message) of each finding."""
    return [(one.rule, one.level, one.message.splitlines()[0]) for one in found]


def test_a_right_machine_passes() -> None:
    run = pack()
    for kind in RIGHT:
        assert list(run.resource(asked(kind))) == []
    assert list(run.outcome(asked("Node", facts={"system": "debian 12", "kernel": "6.1.0-40-amd64"}))) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_says_nothing_of_what_is_not_known_yet(rule: object) -> None:
    for kind in {kind for one in RULES if one is rule for kind in one.kinds}:
        for about in (
            asked(kind, **dict.fromkeys([*RIGHT[kind], "facts"], UNKNOWN)),
            asked(kind, vars=dict.fromkeys(_variables(kind), UNKNOWN), facts={"system": UNKNOWN, "kernel": UNKNOWN}),
            asked(kind, vars={"vllm_flags": dict.fromkeys(("trust-remote-code", "host"), UNKNOWN) | _DOMAINS}),
        ):
            unseen = replace(about, seen={key: {"vars": UNKNOWN, "gpus": UNKNOWN} for key in about.seen})
            assert [one for one in RULES if one is rule and [*one.judge(unseen)]] == []


_DOMAINS = {"allowed-media-domains": ["none.invalid"]}


def _variables(kind: str) -> list[str]:
    """Return the variables that rules read."""
    vllm = (
        "privileged",
        "host_network",
        "ipc_host",
        "ptrace",
        "seccomp_unconfined",
        "flags",
        "environment",
        "entrypoint",
    )
    return {
        "Host": ["rocm_version", "rocm_driver_release", "rocm_driver_version", "rocm_driver_packages"],
        "Image": ["transformers_base_image", "transformers_base_vllm", "transformers_commit"],
        "Weights": ["weights_revision", "weights_endpoint"],
        "Serving": [f"vllm_{name}" for name in (*vllm, "chat_template", "media_dir", "replicas", "image")],
    }.get(kind, [])


def test_what_is_broken_is_told_with_reason_and_remedy() -> None:
    (found,) = pack().resource(serving(vllm_ptrace=True))
    assert found == Finding(
        "no-ptrace",
        "No process of the serving container may trace another.",
        "mandatory",
        "vllm_ptrace is on: it is of use to a debugger, and to whoever wants the API key out of the server's memory\n"
        "remedy: leave vllm_ptrace out; for an hour of debugging take a waiver with that day's date",
    )


@pytest.mark.parametrize("days", [0, 1, 400])
def test_a_waiver_in_force_turns_a_refusal_into_a_line_with_reason_and_last_day(days: int) -> None:
    last = TODAY + datetime.timedelta(days)
    (found,) = pack(waived("no-ptrace", last)).resource(serving(vllm_ptrace=True))
    assert found.level == "advisory"
    assert found.message.startswith("vllm_ptrace is on: ")
    assert found.message.endswith(f"\n(waived until {last}: profile the engine)")


def test_an_expired_waiver_does_not_count_and_says_so() -> None:
    (found,) = pack(waived("no-ptrace", datetime.date(2026, 11, 24))).resource(serving(vllm_ptrace=True))
    assert found.level == "mandatory"
    assert found.message.endswith("\n(its waiver expired on 2026-11-24 and does not count)")


def test_a_waiver_of_one_rule_is_not_one_of_another() -> None:
    (found,) = pack(waived("no-ptrace", TODAY)).resource(serving(vllm_ipc_host=True))
    assert (found.rule, found.level) == ("no-host-ipc", "mandatory")


def test_what_a_hundred_machines_share_is_waived_in_one_line() -> None:
    run = pack(waived("no-ptrace", TODAY))
    about = serving(vllm_ptrace=True)
    told = [one for place in range(100) for one in run.resource(replace(about, name=f"prod-{place}"))]
    assert [one.rule for one in told] == ["no-ptrace"]


def test_what_a_hundred_machines_share_is_refused_on_each() -> None:
    run, about = pack(), serving(vllm_ptrace=True)
    assert len([one for place in range(3) for one in run.resource(replace(about, name=f"prod-{place}"))]) == 3


def test_every_preview_repeats_the_waivers_and_the_released_machines() -> None:
    stack = replace(
        PROD,
        waivers={
            "no-ptrace": Waiver("profile the engine", datetime.date(2026, 12, 31)),
            "no-host-ipc": Waiver("old", datetime.date(2026, 1, 31)),
        },
        release={"prod-4": "mainboard replaced 2026-11-25"},
    )
    assert lines(pack(stack).resource(STACK)) == [
        ("waivers", "advisory", "no-ptrace is waived until 2026-12-31: profile the engine"),
        ("waivers", "advisory", "waivers.no-host-ipc expired on 2026-01-31 and does not count"),
        (
            "machines-protected",
            "advisory",
            "prod-4 is released (mainboard replaced 2026-11-25): it is no longer protected, and can be replaced or deleted",
        ),
    ]


def test_a_waiver_of_no_rule_is_refused_with_the_nearest_name() -> None:
    (found,) = pack(waived("image-by-digst", TODAY)).resource(STACK)
    assert (found.rule, found.level) == ("waivers", "mandatory")
    assert found.message == "waivers.image-by-digst: no rule has this name\nremedy: did you mean image-by-digest?"
    (found,) = pack(waived("everything", TODAY)).resource(STACK)
    assert found.message.endswith("\nremedy: docs/policies.md has their names")


def test_a_serving_is_judged_by_its_machine_and_its_image_that_were_seen_before() -> None:
    run = pack()
    assert list(run.resource(asked("Node", gpus=4))) == []
    assert list(run.resource(asked("Image", vars={"transformers_base_vllm": "0.30.0"}))) == []
    told = lines(run.resource(replace(serving(), seen={})))
    assert [rule for rule, _, _ in told] == ["vllm-cve-floor", *["replicas-fit-gpus"] * 4]


def test_a_machine_is_judged_at_the_end_by_the_rocm_that_was_seen() -> None:
    run = pack()
    assert list(run.resource(asked("Host"))) == []
    about = asked("Node", facts={"system": "debian 11", "kernel": "5.10.0"})
    assert list(run.resource(about)) == []
    assert lines(run.outcome(about)) == [
        ("system-known", "mandatory", "prod-1 runs debian 11, ROCm 7.2.3: AMD lists this ROCm for other systems only")
    ]


def test_a_resource_that_no_rule_judges_concerns_nobody() -> None:
    assert [kind for kind in ("Site", "", "Machine") if pack().concerns(kind)] == []
    assert all(pack().concerns(kind) for kind in ("Stack", *RIGHT))


def test_no_two_rules_have_one_name_and_each_has_all_its_words() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.holds.endswith("."), rule.name
        assert all((rule.reason, rule.remedy, rule.source, rule.kinds)), rule.name
        assert "://" not in rule.source + rule.reason + rule.remedy, rule.name


def test_no_rule_repeats_a_secret() -> None:
    everything_wrong = asked(
        api_key="s3cr3t",
        image="registry.example/glm",
        vars={"vllm_flags": {"api-key": KEY}, "vllm_environment": {"VLLM_API_KEY": KEY, "VLLM_SERVER_DEV_MODE": "1"}},
        protect=False,
    )
    told = "".join(one.message for one in pack().resource(everything_wrong))
    assert "VLLM_API_KEY" in told and "fewer than 20" in told
    assert KEY not in told and "s3cr3t" not in told
