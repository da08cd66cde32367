"""Resources as the policy pack is asked about them: right ones, with what a test changes. Called by tests/unit/test_policies_*."""

from collections.abc import Mapping
from typing import Any

from policies.context import Context
from policies.rule import Rule
from policies.rules import RULES
from policies.stack import Stack

DIGEST = "registry.example/glm@sha256:" + "ab" * 32
COMMIT = "12" * 20
KEY = "0123456789abcdef0123456789abcdef"
PROD = Stack(source="ssh")

# The inputs of right resources, and what was seen before a Serving is asked about.
RIGHT: Mapping[str, Mapping[str, Any]] = {
    "BareMetal": {"name": "prod-1", "bmc": "https://192.0.2.111"},
    "Node": {"name": "prod-1", "address": "192.0.2.11", "gpus": 8},
    "Host": {"vars": {"rocm_version": "7.2.3", "rocm_driver_release": "30.30.3"}},
    "Image": {
        "vars": {
            "transformers_base_image": DIGEST,
            "transformers_base_vllm": "0.32.0",
            "transformers_commit": COMMIT,
        }
    },
    "Weights": {"vars": {"weights_revision": COMMIT}},
    "Serving": {
        "image": DIGEST,
        "api_key": KEY,
        "vars": {"vllm_image": DIGEST, "vllm_flags": {"allowed-media-domains": ["none.invalid"]}},
    },
    "Stack": {},
}


def rule(name: str) -> Rule:
    """Return a rule by its name."""
    return next(rule for rule in RULES if rule.name == name)


def context(kind: str = "Serving", stack: Stack = PROD, protect: bool = True, **inputs: Any) -> Context:
    """Return a right resource with some inputs changed; `vars` is laid over the right ones, what is None is left out."""
    right = RIGHT[kind]
    variables = inputs.pop("vars", {})
    both = {**right.get("vars", {}), **variables} if isinstance(variables, Mapping) else variables
    changed = {**right, **inputs, **({"vars": both} if both else {})}
    kept = {name: value for name, value in changed.items() if value is not None}
    others = {(other, "prod-1"): props for other, props in RIGHT.items() if other != kind}
    return Context(kind, "prod-1", kept, protect, stack, others)


def messages(name: str, about: Context) -> list[str]:
    """Return what a rule tells about a resource."""
    judge = rule(name)
    assert about.kind in judge.kinds
    return [judge.message(violation) for violation in judge.judge(about)]


def only_message(name: str, about: Context) -> str:
    """Return the only thing that a rule tells about a resource."""
    (message,) = messages(name, about)
    return message


def serving(**variables: Any) -> Context:
    """Return a right Serving with some role variables changed."""
    return context("Serving", vars=variables)


def flags(**values: Any) -> Context:
    """Return a right Serving with some flags changed: underscores here are dashes there, None leaves a flag out."""
    right = RIGHT["Serving"]["vars"]["vllm_flags"]
    both = {**right, **{name.replace("_", "-"): value for name, value in values.items()}}
    return serving(vllm_flags={name: value for name, value in both.items() if value is not None})
