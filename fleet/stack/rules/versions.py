"""Rules about the base image's vLLM version: it can serve the model and has no known fault with it (data/versions.yml)."""

from collections.abc import Iterator
from typing import Any

from packaging.version import InvalidVersion, Version

from fleet.stack.rules import models
from fleet.stack.rules.rule import MachinePlan, Rule, StackFinding, at_key

WANTED = "a base image with vLLM {} or newer, named in transformers_base_image and transformers_base_vllm"


def vllm_knows_model(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a version of vLLM that cannot serve the model."""
    yield from _faults(plan, stops=True)


def vllm_works(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield each known fault of the vLLM version with this model."""
    yield from _faults(plan, stops=False)


def _faults(plan: MachinePlan, *, stops: bool) -> Iterator[StackFinding]:
    value = plan.values.get("transformers_base_vllm")
    version = public(value)
    if plan.model is None or version is None:
        return  # the policy vllm-version-known reports a missing version
    for fault in models.read("versions")["vllm"]:
        if bool(fault.get("stops")) is stops and Version(fault.get("since", "0")) <= version < Version(fault["fixed"]):
            seen = f"{fault['what']} ({fault['source']})"
            yield at_key("transformers_base_vllm", seen, WANTED.format(fault["fixed"]), value)


def public(text: Any) -> Version | None:
    """Return a version without the builder's suffix (0.32.0+rocm723), as advisories name it; None when it is malformed."""
    try:
        return Version(Version(str(text)).public)
    except InvalidVersion:
        return None


RULES = (
    Rule(
        name="vllm-knows-model",
        holds="The vLLM in the base image can serve GLM-4.6V.",
        reason="otherwise every machine pulls and starts the image before vLLM reports that it cannot",
        source="fleet/stack/rules/data/versions.yml, vllm",
        check=vllm_knows_model,
    ),
    Rule(
        name="vllm-works",
        holds="The vLLM in the base image has no known fault with GLM-4.6V.",
        reason="with such a fault the endpoint is up, but its answers are incomplete",
        source="fleet/stack/rules/data/versions.yml, vllm: each with its issue",
        check=vllm_works,
        level="warning",
    ),
)
