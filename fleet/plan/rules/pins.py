"""What a plan names, it names so that it cannot move under a running fleet; and what no role can guess is named."""

import re
from collections.abc import Iterator

from fleet.plan.rules.rule import Finding, Planned, Rule

DIGEST = re.compile(r"^[^@\s]+@sha256:[0-9a-f]{64}$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")
IMAGE = "REPOSITORY@sha256:<64 hex>, e.g. from `docker buildx imagetools inspect`"
NEEDED = {
    "transformers_base_image": "REPOSITORY@sha256:<64 hex>",
    "transformers_commit": "40 hex digits",
    "weights_revision": "40 hex digits",
}


def pinned(planned: Planned) -> Iterator[Finding]:
    """Yield an image without digest, a source or weights without a full commit."""
    base = planned.values.get("transformers_base_image")
    if base and not DIGEST.match(str(base)):
        yield Finding("transformers_base_image", "an image without digest", IMAGE, base)
    for key in ("transformers_commit", "weights_revision"):
        value = planned.values.get(key)
        if value and not COMMIT.match(str(value)):
            yield Finding(key, "not a full commit", "40 hex digits", value)


def named(planned: Planned) -> Iterator[Finding]:
    """Yield what nobody has named."""
    for key, wanted in NEEDED.items():
        if not planned.values.get(key):
            yield Finding(key, "this variable is missing", wanted)


NAMED = Rule(
    name="named",
    holds="A stack names its base image, its transformers commit and its weights revision.",
    reason="no role can guess them; a source that brings them (the lab's) is not asked",
    source="roles/transformers and roles/weights: these variables have no default",
    judge=named,
)
RULES = (
    Rule(
        name="pinned",
        holds="Images are named by digest, sources and weights by a full commit.",
        reason="a tag or a branch moves: the next rebuild would be another fleet",
        source="project notes on serving, Images and Weights: always pinned",
        judge=pinned,
    ),
)
