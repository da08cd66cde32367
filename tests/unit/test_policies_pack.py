"""The rules in one run, asked by Pulumi's policy library: right resources pass, waivers hold until their day, what was seen counts.

policies/pack.py. Each stack's program passes with all that an update knows.
"""

import datetime
import json
import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import pytest
from google.protobuf import json_format, struct_pb2
from pulumi.runtime import mocks
from pulumi_policy import (
    EnforcementLevel,
    PolicyResource,
    PolicyResourceOptions,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.deserialize import deserialize_properties
from pulumi_policy.proxy import UNKNOWN_OBJECT_VALUE, UNKNOWN_STRING_VALUE, unknown_checking_proxy

from fleet.findings import Waiver
from policies import data, pack, stack
from policies.context import UNKNOWN, Context
from policies.rule import ResourceRule
from policies.rules import RULES
from policies.stack import Stack
from tests.support import program_mocks
from tests.support.policy_resources import DIGEST, KEY, PROD, RIGHT, context, serving

TODAY = datetime.date(2026, 11, 25)
STACK = Context("Stack", "glm-fleet-prod", {})


class Reported(NamedTuple):
    """What the library tells the engine: of which policy, how hard, what, and at the end of which resource."""

    rule: str
    level: EnforcementLevel
    message: str
    at: str | None = None


class Run:
    """A run on one stack. `resource` and `outcome` ask every policy, as the library does."""

    def __init__(self, judged: Stack = PROD) -> None:
        self.policies = pack.policies(judged, TODAY)

    def resource(self, about: Context) -> list[Reported]:
        args = ResourceValidationArgs(token(about), props(about), "", about.name, options(about), None)
        findings: list[Reported] = []
        for policy in self.policies:
            if isinstance(policy, ResourceValidationPolicy):
                policy.validate(args, reporter(policy, findings))
        return findings

    def outcome(self, *all_of_them: Context) -> list[Reported]:
        resources = [
            PolicyResource(token(about), props(about), urn(about), about.name, options(about), None, None, [], {})
            for about in all_of_them
        ]
        findings: list[Reported] = []
        for policy in self.policies:
            if isinstance(policy, StackValidationPolicy):
                policy.validate(StackValidationArgs(resources), reporter(policy, findings))
        return findings


def reporter(policy: Any, findings: list[Reported]) -> Any:
    return lambda message, urn: findings.append(Reported(policy.name, policy.enforcement_level, message, urn))


def token(about: Context) -> str:
    return pack.STACK if about.kind == "Stack" else pack.OURS + about.kind


def urn(about: Context) -> str:
    return f"urn::{about.kind}::{about.name}"


def options(about: Context) -> PolicyResourceOptions:
    return PolicyResourceOptions(about.protect, [], None, [], None, [], None)  # type: ignore[arg-type]


def props(about: Context) -> Any:
    """Return the inputs as they come out of the library: through gRPC's messages, behind its proxies."""
    struct = struct_pb2.Struct()
    struct.update(about.inputs)
    return unknown_checking_proxy(deserialize_properties(json_format.MessageToDict(struct)))


def waived(name: str, expires: datetime.date) -> Stack:
    return replace(PROD, waivers={name: Waiver("profile the engine", expires)})


MANDATORY, ADVISORY = EnforcementLevel.MANDATORY, EnforcementLevel.ADVISORY


def lines(findings: Iterable[Reported]) -> list[tuple[str, EnforcementLevel, str]]:
    """Return (rule, level, first line of the message) of each finding."""
    return [(one.rule, one.level, one.message.splitlines()[0]) for one in findings]


def test_a_valid_machine_passes() -> None:
    run = Run()
    for kind in RIGHT:
        assert run.resource(context(kind)) == []
    assert (
        run.outcome(context("Node", facts={"system": "debian 12", "kernel": "6.1.0-40-amd64"}), context("Host")) == []
    )


def test_pulumi_gets_every_rule_with_its_level() -> None:
    policies = [(policy.name, policy.description, policy.enforcement_level) for policy in Run().policies]
    rules = [(rule.name, rule.holds, pack.ENFORCEMENT[rule.level]) for rule in RULES]
    own = [(*pack.WAIVERS_KNOWN, MANDATORY), (*pack.WAIVERS, ADVISORY), (*pack.RECENT, ADVISORY)]
    assert policies == [*rules, *own], "policies/pack.py gives Pulumi each of RULES (policies/rules/__init__.py)"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_says_nothing_of_what_is_not_known_yet(rule: ResourceRule) -> None:
    for kind in rule.kinds:
        for about in (
            context(kind, **dict.fromkeys([*RIGHT[kind], "facts"], UNKNOWN)),
            context(kind, vars=dict.fromkeys(_variables(kind), UNKNOWN), facts={"system": UNKNOWN, "kernel": UNKNOWN}),
            context(kind, vars={"vllm_flags": dict.fromkeys(("trust-remote-code", "host"), UNKNOWN) | _DOMAINS}),
        ):
            unknown = replace(about, others={key: {"vars": UNKNOWN, "gpus": UNKNOWN} for key in about.others})
            assert [*rule.check(unknown)] == [], f"{rule.name}: skip an input that is UNKNOWN (policies/context.py)"


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
        "Host": [
            "rocm_version",
            "rocm_driver_release",
            "rocm_driver_version",
            "rocm_driver_packages",
            "docker_daemon_options",
        ],
        "Image": ["transformers_base_image", "transformers_base_vllm", "transformers_commit"],
        "Weights": ["weights_revision", "weights_endpoint", "weights_manifest"],
        "Serving": [f"vllm_{name}" for name in (*vllm, "chat_template", "media_dir", "replicas", "image")],
    }.get(kind, [])


def test_a_finding_is_reported_with_reason_and_remedy() -> None:
    (finding,) = Run().resource(serving(vllm_ptrace=True))
    assert finding == Reported(
        "no-ptrace",
        MANDATORY,
        "vllm_ptrace is on: tracing serves a debugger, and an attacker who reads the API key from the server's memory\n"
        "remedy: leave vllm_ptrace out; for an hour of debugging use a waiver that expires the same day",
    )


@pytest.mark.parametrize("days", [0, 1, 400])
def test_a_waiver_in_force_turns_a_refusal_into_a_line_with_reason_and_last_day(days: int) -> None:
    last = TODAY + datetime.timedelta(days)
    (finding,) = Run(waived("no-ptrace", last)).resource(serving(vllm_ptrace=True))
    assert finding.level == ADVISORY
    assert finding.message.startswith("vllm_ptrace is on: ")
    assert finding.message.endswith(f"\n(waived until {last}: profile the engine)")


def test_an_expired_waiver_does_not_count_and_says_so() -> None:
    (finding,) = Run(waived("no-ptrace", datetime.date(2026, 11, 24))).resource(serving(vllm_ptrace=True))
    assert finding.level == MANDATORY
    assert finding.message.endswith("\n(its waiver expired on 2026-11-24 and does not count)")


def test_a_waiver_of_one_rule_is_not_one_of_another() -> None:
    (finding,) = Run(waived("no-ptrace", TODAY)).resource(serving(vllm_ipc_host=True))
    assert (finding.rule, finding.level) == ("no-host-ipc", MANDATORY)


def test_what_a_hundred_machines_share_is_waived_in_one_line() -> None:
    run = Run(waived("no-ptrace", TODAY))
    about = serving(vllm_ptrace=True)
    findings = [one for place in range(100) for one in run.resource(replace(about, name=f"prod-{place}"))]
    assert [one.rule for one in findings] == ["no-ptrace"]


def test_what_a_hundred_machines_share_is_refused_on_each() -> None:
    run, about = Run(), serving(vllm_ptrace=True)
    assert len([one for place in range(3) for one in run.resource(replace(about, name=f"prod-{place}"))]) == 3


def test_every_preview_repeats_the_waivers_and_the_released_machines() -> None:
    judged = replace(
        PROD,
        waivers={
            "no-ptrace": Waiver("profile the engine", datetime.date(2026, 12, 31)),
            "no-host-ipc": Waiver("old", datetime.date(2026, 1, 31)),
        },
        release={"prod-4": "mainboard replaced 2026-11-25"},
    )
    assert lines(Run(judged).resource(STACK)) == [
        (
            "machines-released",
            ADVISORY,
            "prod-4 is released (mainboard replaced 2026-11-25): Pulumi no longer protects it, and can replace or delete it; "
            "a delete leaves weights and driver there, unless glm-fleet:purge names them",
        ),
        ("waivers", ADVISORY, "waivers.no-ptrace: waived until 2026-12-31: profile the engine"),
        ("waivers", ADVISORY, "waivers.no-host-ipc: its waiver expired on 2026-01-31 and does not count"),
    ]


def test_a_waiver_of_no_rule_is_refused_with_the_nearest_name() -> None:
    (finding,) = Run(waived("image-by-digst", TODAY)).resource(STACK)
    assert (finding.rule, finding.level) == ("waivers-known", MANDATORY)
    assert finding.message == "waivers.image-by-digst: no rule has this name\nremedy: did you mean image-by-digest?"
    (finding,) = Run(waived("everything", TODAY)).resource(STACK)
    assert finding.message.endswith("\nremedy: docs/policies.md, docs/rules.md and docs/preflight.md list the names")


@pytest.mark.parametrize(("name", "rule"), [("preflight-space", "waivers"), ("preflight-owner", "waivers-known")])
def test_a_check_of_the_preflight_is_waived_in_the_same_place_but_whose_the_machine_is(name: str, rule: str) -> None:
    assert [one.rule for one in Run(waived(name, TODAY)).resource(STACK)] == [rule]


def test_a_serving_is_judged_by_its_machine_and_its_image_that_were_seen_before() -> None:
    run = Run()
    assert run.resource(context("Node", gpus=4)) == []
    assert run.resource(context("Image", vars={"transformers_base_vllm": "0.30.0"})) == []
    findings = lines(run.resource(serving()))
    assert [rule for rule, _, _ in findings] == [*["vllm-cve-floor"] * 4, *["replicas-fit-gpus"] * 4]


def test_a_machine_is_judged_at_the_end_by_the_rocm_that_it_has() -> None:
    run = Run()
    about = context("Node", facts={"system": "debian 11", "kernel": "5.10.0"})
    assert run.resource(about) == []
    findings = run.outcome(about, context("Host"))
    assert lines(findings) == [
        ("system-known", MANDATORY, "prod-1 runs debian 11, ROCm 7.2.3: AMD lists this ROCm only for other systems")
    ]
    assert [one.at for one in findings] == [urn(about)]


def test_a_waiver_counts_for_a_rule_that_is_asked_at_the_end_too() -> None:
    about = context("Node", facts={"system": "debian 11", "kernel": "5.10.0"})
    (finding,) = Run(waived("system-known", TODAY)).outcome(about, context("Host"))
    assert finding.level == ADVISORY
    assert finding.message.endswith("\n(waived until 2026-11-25: profile the engine)")


@pytest.mark.parametrize(("days", "old"), [(45, False), (46, True)])
def test_a_preview_says_that_the_list_of_vulnerabilities_is_old(days: int, old: bool) -> None:
    run = Run()
    run.policies = pack.policies(PROD, data.checked() + datetime.timedelta(days=days))
    findings = run.resource(STACK)
    assert [(one.rule, one.level) for one in findings] == ([("holes-recent", ADVISORY)] if old else [])
    assert not old or "was last compared with its sources 46 days ago, on " in findings[0].message


def test_what_is_not_ours_is_not_judged() -> None:
    assert [pack.kind_of(name) for name in ("lab:index:Machine", "pulumi:providers:fleet")] == ["", ""]
    assert [pack.kind_of(token(context(kind))) for kind in RIGHT] == list(RIGHT)


def test_unknown_inputs_of_a_preview_have_no_finding() -> None:
    unknown = context(image=UNKNOWN_STRING_VALUE, vars=UNKNOWN_OBJECT_VALUE, api_key=UNKNOWN_STRING_VALUE)
    assert Run().resource(unknown) == []


def test_values_arrive_as_they_were() -> None:
    secret = {program_mocks.SECRET: program_mocks.SECRET_SIGN, "value": [1]}
    values = {"a": [1.0, 2.5, {"b": None, "c": True}], "d": {"e": ""}, "f": UNKNOWN_STRING_VALUE, "g": {"h": secret}}
    plain = pack.plain(props(Context("Node", "prod-1", {**values, "i": [UNKNOWN_OBJECT_VALUE, 2]})))
    assert plain == {
        "a": [1, 2.5, {"b": None, "c": True}],
        "d": {"e": ""},
        "f": UNKNOWN,
        "g": {"h": [1]},
        "i": [UNKNOWN, 2],
    }
    assert isinstance(plain["a"][0], int)


def test_no_two_rules_have_one_name_and_each_has_all_its_words() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES), "two rules of policies/rules/ have one name"
    for rule in RULES:
        assert rule.holds.endswith("."), f"{rule.name}: `holds` is a sentence"
        assert all((rule.reason, rule.remedy, rule.source, rule.kinds)), (
            f"{rule.name}: add reason, remedy, source, kinds"
        )
        assert "://" not in rule.source + rule.reason + rule.remedy, f"{rule.name}: name the source without a URL"


def test_no_rule_repeats_a_secret() -> None:
    everything_wrong = context(
        api_key="s3cr3t",
        image="registry.example/glm",
        vars={"vllm_flags": {"api-key": KEY}, "vllm_environment": {"VLLM_API_KEY": KEY, "VLLM_SERVER_DEV_MODE": "1"}},
        protect=False,
    )
    text = "".join(one.message for one in Run().resource(everything_wrong))
    assert "VLLM_API_KEY" in text and "fewer than 20" in text
    assert KEY not in text and "s3cr3t" not in text


@pytest.fixture
def sigint() -> Iterator[None]:
    """The program takes SIGINT for itself; give it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", program_mocks.STACKS)
@pytest.mark.usefixtures("sigint")
def test_every_stack_passes_with_all_that_an_update_knows(name: str) -> None:
    """What the real program registers, its secrets as the engine sends them, the lab's with what its site tells."""
    registered: list[Context] = []
    register = mocks.MockMonitor.RegisterResource

    def listen(monitor: Any, one: Any) -> Any:
        inputs = json_format.MessageToDict(one.object)
        registered.append(Context(pack.kind_of(one.type), one.name, inputs, one.protect))
        return register(monitor, one)

    values = program_mocks.config(name)
    site = {
        "transformers_base_image": DIGEST,
        "transformers_commit": "12" * 20,
        "weights_revision": "34" * 20,
        "weights_manifest": {"config.json": "56" * 32},
    }
    with (
        mock.patch.object(mocks.MockMonitor, "RegisterResource", listen),
        mock.patch.object(program_mocks, "SITE_VARS", site),
    ):
        program_mocks.run(name, values)
    assert {"Node", "Host", "Image", "Weights", "Serving"} <= {one.kind for one in registered}
    run = Run(stack.read({key: json.dumps(value) for key, value in values.items()}, stack.file_of(name)))
    assert [(one.name, findings) for one in registered if (findings := run.resource(one))] == []
