"""Pulumi's policy library calls all rules: valid resources pass, waivers count until their last day, earlier resources count too.

policies/pack.py. Each stack's program passes with everything that an update knows.
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
from policies import data, pack, pods, stack
from policies.context import UNKNOWN, Context
from policies.rule import ResourceRule
from policies.rules import RULES
from policies.stack import Stack
from tests.support import cluster_stack, program_mocks
from tests.support.policy_resources import DIGEST, KEY, PROD, RIGHT, context, serving

TODAY = datetime.date(2026, 11, 25)
STACK = Context("Stack", "glm-fleet-prod", {})


class Violation(NamedTuple):
    """What the library sends to the Pulumi engine: policy, level, message, and for a policy of the whole stack the resource."""

    rule: str
    level: EnforcementLevel
    message: str
    at: str | None = None


class Run:
    """A run on one stack. `resource` and `outcome` call every policy, as the library does."""

    def __init__(self, settings: Stack = PROD) -> None:
        self.policies = pack.policies(settings, TODAY)

    def resource(self, about: Context) -> list[Violation]:
        args = ResourceValidationArgs(token(about), props(about), "", about.name, options(about), None)
        findings: list[Violation] = []
        for policy in self.policies:
            if isinstance(policy, ResourceValidationPolicy):
                policy.validate(args, reporter(policy, findings))
        return findings

    def outcome(self, *contexts: Context) -> list[Violation]:
        resources = [
            PolicyResource(token(about), props(about), urn(about), about.name, options(about), None, None, [], {})
            for about in contexts
        ]
        findings: list[Violation] = []
        for policy in self.policies:
            if isinstance(policy, StackValidationPolicy):
                policy.validate(StackValidationArgs(resources), reporter(policy, findings))
        return findings


def reporter(policy: Any, findings: list[Violation]) -> Any:
    return lambda message, urn: findings.append(Violation(policy.name, policy.enforcement_level, message, urn))


def token(about: Context) -> str:
    if about.kind in pods.OBJECTS:
        return f"{pack.CLUSTER}apps/v1:{about.kind}"
    return pack.STACK if about.kind == "Stack" else pack.OURS + about.kind


def urn(about: Context) -> str:
    return f"urn::{about.kind}::{about.name}"


def options(about: Context) -> PolicyResourceOptions:
    return PolicyResourceOptions(about.protect, [], None, [], None, [], None)  # type: ignore[arg-type]


def props(about: Context) -> Any:
    """Return the inputs as the library passes them: from gRPC's messages, in its proxies."""
    struct = struct_pb2.Struct()
    struct.update(about.inputs)
    return unknown_checking_proxy(deserialize_properties(json_format.MessageToDict(struct)))


def with_waiver(name: str, expires: datetime.date) -> Stack:
    return replace(PROD, waivers={name: Waiver("profile the server", expires)})


MANDATORY, ADVISORY = EnforcementLevel.MANDATORY, EnforcementLevel.ADVISORY


def lines(findings: Iterable[Violation]) -> list[tuple[str, EnforcementLevel, str]]:
    """Return (rule, level, first line of the message) of each finding."""
    return [(finding.rule, finding.level, finding.message.splitlines()[0]) for finding in findings]


def test_a_valid_machine_passes() -> None:
    run = Run()
    for kind in RIGHT:
        assert run.resource(context(kind)) == []
    node = context("Node", facts={"system": "debian 12", "kernel": "6.1.0-40-amd64"})
    assert run.outcome(node, context("Host")) == []


def test_pulumi_gets_every_rule_with_its_level() -> None:
    policies = [(policy.name, policy.description, policy.enforcement_level) for policy in Run().policies]
    rules = [(rule.name, rule.holds, pack.ENFORCEMENT[rule.level]) for rule in RULES]
    own = [(*pack.WAIVERS_KNOWN, MANDATORY), (*pack.WAIVERS, ADVISORY), (*pack.RECENT, ADVISORY)]
    assert policies == [*rules, *own], "policies/pack.py gives Pulumi each of RULES (policies/rules/__init__.py)"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_skips_unknown_inputs(rule: ResourceRule) -> None:
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
    names = {
        "Host": "docker_daemon_options rocm_version rocm_driver_release rocm_driver_version rocm_driver_packages",
        "Image": "transformers_base_image transformers_base_vllm transformers_commit",
        "Weights": "weights_revision weights_endpoint weights_manifest",
        "Gateway": "gateway_clients",
        "Serving": "vllm_privileged vllm_host_network vllm_ipc_host vllm_ptrace vllm_seccomp_unconfined vllm_flags "
        "vllm_environment vllm_entrypoint vllm_chat_template vllm_media_dir vllm_replicas vllm_image",
    }
    return names.get(kind, "").split()


def test_a_finding_has_reason_and_remedy() -> None:
    (finding,) = Run().resource(serving(vllm_ptrace=True))
    assert finding == Violation(
        "no-ptrace",
        MANDATORY,
        "vllm_ptrace is on: tracing serves a debugger, and an attacker who reads the API key from the server's memory\n"
        "remedy: leave vllm_ptrace out; for an hour of debugging use a waiver that expires the same day",
    )


@pytest.mark.parametrize("days", [0, 1, 400])
def test_a_waiver_in_force_turns_a_refusal_into_a_warning_with_reason_and_last_day(days: int) -> None:
    last = TODAY + datetime.timedelta(days)
    (finding,) = Run(with_waiver("no-ptrace", last)).resource(serving(vllm_ptrace=True))
    assert finding.level == ADVISORY
    assert finding.message.startswith("vllm_ptrace is on: ")
    assert finding.message.endswith(f"\n(waived until {last}: profile the server)")


def test_an_expired_waiver_does_not_count_and_the_message_says_so() -> None:
    (finding,) = Run(with_waiver("no-ptrace", datetime.date(2026, 11, 24))).resource(serving(vllm_ptrace=True))
    assert finding.level == MANDATORY
    assert finding.message.endswith("\n(its waiver expired on 2026-11-24 and does not count)")


def test_a_waiver_of_one_rule_waives_no_other() -> None:
    (finding,) = Run(with_waiver("no-ptrace", TODAY)).resource(serving(vllm_ipc_host=True))
    assert (finding.rule, finding.level) == ("no-host-ipc", MANDATORY)


@pytest.mark.parametrize(("settings", "count"), [(with_waiver("no-ptrace", TODAY), 1), (PROD, 100)])
def test_machines_with_one_finding_share_the_line_of_its_waiver_and_have_a_refusal_each(
    settings: Stack, count: int
) -> None:
    run, about = Run(settings), serving(vllm_ptrace=True)
    findings = [run.resource(replace(about, name=f"prod-{place}")) for place in range(100)]
    assert [finding.rule for own in findings for finding in own] == ["no-ptrace"] * count


def test_every_preview_repeats_the_waivers_and_the_released_machines() -> None:
    waivers = {
        "no-ptrace": Waiver("profile the server", datetime.date(2026, 12, 31)),
        "no-host-ipc": Waiver("old", datetime.date(2026, 1, 31)),
    }
    settings = replace(PROD, waivers=waivers, release={"prod-4": "mainboard replaced 2026-11-25"})
    assert lines(Run(settings).resource(STACK)) == [
        (
            "machines-released",
            ADVISORY,
            "prod-4 is released (mainboard replaced 2026-11-25): Pulumi no longer protects it, and can replace or delete it; "
            "a delete leaves weights and driver there, unless glm-fleet:purge names them",
        ),
        ("waivers", ADVISORY, "waivers.no-ptrace: waived until 2026-12-31: profile the server"),
        ("waivers", ADVISORY, "waivers.no-host-ipc: its waiver expired on 2026-01-31 and does not count"),
    ]


def test_a_waiver_of_an_unknown_rule_is_refused_with_the_nearest_name() -> None:
    (finding,) = Run(with_waiver("image-by-digst", TODAY)).resource(STACK)
    assert (finding.rule, finding.level) == ("waivers-known", MANDATORY)
    assert finding.message == "waivers.image-by-digst: no rule has this name\nremedy: did you mean image-by-digest?"
    (finding,) = Run(with_waiver("everything", TODAY)).resource(STACK)
    assert finding.message.endswith("\nremedy: docs/policies.md, docs/rules.md and docs/preflight.md list the names")


@pytest.mark.parametrize(("name", "rule"), [("preflight-space", "waivers"), ("preflight-owner", "waivers-known")])
def test_the_same_key_waives_a_check_of_the_preflight_except_the_owner(name: str, rule: str) -> None:
    assert [finding.rule for finding in Run(with_waiver(name, TODAY)).resource(STACK)] == [rule]


def test_the_rules_compare_a_serving_with_its_machine_and_image_from_the_same_run() -> None:
    run = Run()
    assert run.resource(context("Node", gpus=4)) == []
    assert run.resource(context("Image", vars={"transformers_base_vllm": "0.30.0"})) == []
    findings = lines(run.resource(serving()))
    assert [rule for rule, _, _ in findings] == [*["vllm-cve-floor"] * 4, *["replicas-fit-gpus"] * 4]


def test_the_rules_compare_a_machine_with_its_rocm_at_the_end() -> None:
    run = Run()
    about = context("Node", facts={"system": "debian 11", "kernel": "5.10.0"})
    assert run.resource(about) == []
    findings = run.outcome(about, context("Host"))
    assert lines(findings) == [
        ("system-known", MANDATORY, "prod-1 runs debian 11, ROCm 7.2.3: AMD lists this ROCm only for other systems")
    ]
    assert [finding.at for finding in findings] == [urn(about)]


def test_a_waiver_counts_for_a_rule_that_runs_at_the_end_too() -> None:
    about = context("Node", facts={"system": "debian 11", "kernel": "5.10.0"})
    (finding,) = Run(with_waiver("system-known", TODAY)).outcome(about, context("Host"))
    assert finding.level == ADVISORY
    assert finding.message.endswith("\n(waived until 2026-11-25: profile the server)")


@pytest.mark.parametrize(("days", "old"), [(45, False), (46, True)])
def test_a_preview_reports_an_old_list_of_vulnerabilities(days: int, old: bool) -> None:
    run = Run()
    run.policies = pack.policies(PROD, data.vulnerabilities_checked() + datetime.timedelta(days=days))
    findings = run.resource(STACK)
    assert [finding[:2] for finding in findings] == ([("holes-recent", ADVISORY)] if old else [])
    assert not old or "was last compared with its sources 46 days ago, on " in findings[0].message


def test_the_pack_checks_only_our_resources() -> None:
    assert [
        pack.kind_of(name) for name in ("lab:index:Machine", "pulumi:providers:fleet", "kubernetes:core/v1:Node")
    ] == [""] * 3
    assert [pack.kind_of(token(context(kind))) for kind in RIGHT] == list(RIGHT)


def test_unknown_inputs_of_a_preview_have_no_finding() -> None:
    unknown = context(image=UNKNOWN_STRING_VALUE, vars=UNKNOWN_OBJECT_VALUE, api_key=UNKNOWN_STRING_VALUE)
    assert Run().resource(unknown) == []


def test_the_rules_get_the_values_of_the_program() -> None:
    secret = {program_mocks.SECRET: program_mocks.SECRET_SIGN, "value": [1]}
    values = {"a": [1.0, 2.5, {"b": None, "c": True}], "d": {"e": ""}, "f": UNKNOWN_STRING_VALUE, "g": {"h": secret}}
    plain = pack.plain(props(Context("Node", "prod-1", {**values, "i": [UNKNOWN_OBJECT_VALUE, 2]})))
    assert isinstance(plain["a"][0], int)
    assert plain == {**values, "f": UNKNOWN, "g": {"h": [1]}, "i": [UNKNOWN, 2]}


def test_each_rule_has_a_name_of_its_own_and_all_its_texts() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES), "two rules of policies/rules/ have one name"
    for rule in RULES:
        assert rule.holds.endswith("."), f"{rule.name}: `holds` is a sentence"
        parts = (rule.reason, rule.remedy, rule.source, rule.kinds)
        assert all(parts), f"{rule.name}: add reason, remedy, source, kinds"
        assert "://" not in rule.source + rule.reason + rule.remedy, f"{rule.name}: name the source without a URL"


def test_no_rule_repeats_a_secret() -> None:
    everything_wrong = context(
        api_key="s3cr3t",
        image="registry.example/glm",
        vars={"vllm_flags": {"api-key": KEY}, "vllm_environment": {"VLLM_API_KEY": KEY, "VLLM_SERVER_DEV_MODE": "1"}},
        protect=False,
    )
    text = "".join(finding.message for finding in Run().resource(everything_wrong))
    assert "VLLM_API_KEY" in text and "fewer than 20" in text
    assert KEY not in text and "s3cr3t" not in text


@pytest.fixture
def sigint() -> Iterator[None]:
    """Restore the handler of SIGINT, which the program replaces."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("name", program_mocks.STACKS)
@pytest.mark.usefixtures("sigint")
def test_every_stack_passes_with_everything_that_an_update_knows(name: str) -> None:
    """The resources are the real program's, secrets as the Pulumi engine sends them, the lab's with its site's variables."""
    kinds, findings = judged(name, program_mocks.config(name))
    assert {"Node", "Host", "Image", "Weights", "Serving"} <= kinds
    assert findings == []


@pytest.mark.parametrize("home", cluster_stack.HOMES)
@pytest.mark.usefixtures("sigint")
def test_a_stack_on_a_cluster_passes_with_everything_that_an_update_knows(home: str) -> None:
    keys = cluster_stack.keys(weights=cluster_stack.HOMES[home])
    kinds, findings = judged("prod", {f"glm-fleet:{key}": value for key, value in keys.items()})
    assert {"Rollout", "Deployment", "Namespace"} <= kinds
    assert findings == []


def judged(name: str, values: dict[str, Any]) -> tuple[set[str], list[tuple[str, list[Violation]]]]:
    """Return the kinds of a program's resources, and what the pack finds in each."""
    resources: list[Context] = []
    register = mocks.MockMonitor.RegisterResource

    def listen(monitor: Any, request: Any) -> Any:
        inputs = json_format.MessageToDict(request.object)
        resources.append(Context(pack.kind_of(request.type), request.name, inputs, request.protect))
        return register(monitor, request)

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
    run = Run(stack.read({key: json.dumps(value) for key, value in values.items()}, stack.file_of(name), name))
    known = [about for about in resources if about.kind]
    return {about.kind for about in known}, [
        (about.name, findings) for about in known if (findings := run.resource(about))
    ]
