"""The vLLM in the base image knows the model, and answers as clients expect (data/versions.yml)."""

from collections.abc import Iterator
from typing import Any

from packaging.version import InvalidVersion, Version

from fleet.stack.rules import models
from fleet.stack.rules.rule import Planned, Rule, StackFinding, at_key

WANTED = "a base image with vLLM {} or newer, named in transformers_base_image and transformers_base_vllm"


def knows(planned: Planned) -> Iterator[StackFinding]:
    """Yield a vLLM that no replica gets to serve with."""
    yield from _told(planned, stops=True)


def works(planned: Planned) -> Iterator[StackFinding]:
    """Yield what a vLLM is known to do wrong with this model."""
    yield from _told(planned, stops=False)


def _told(planned: Planned, *, stops: bool) -> Iterator[StackFinding]:
    value = planned.values.get("transformers_base_vllm")
    version = public(value)
    if planned.model is None or version is None:
        return  # without a version the policy vllm-version-known speaks
    for one in models.read("versions")["vllm"]:
        if bool(one.get("stops")) is stops and Version(one.get("since", "0")) <= version < Version(one["fixed"]):
            seen = f"{one['what']} ({one['source']})"
            yield at_key("transformers_base_vllm", seen, WANTED.format(one["fixed"]), value)


def public(told: Any) -> Version | None:
    """Return a version as advisories count: without what a builder appended (0.32.0+rocm723); None for what is none."""
    try:
        return Version(Version(str(told)).public)
    except InvalidVersion:
        return None


RULES = (
    Rule(
        name="vllm-knows-model",
        holds="The vLLM in the base image can serve GLM-4.6V.",
        reason="it is pulled and started on every machine before it says that it cannot",
        source="fleet/stack/rules/data/versions.yml, vllm",
        check=knows,
    ),
    Rule(
        name="vllm-works",
        holds="The vLLM in the base image has no known fault with GLM-4.6V.",
        reason="the endpoint is up, and clients get less than they asked for",
        source="fleet/stack/rules/data/versions.yml, vllm: each with its issue",
        check=works,
        level="warning",
    ),
)
