"""Rules about versions: a stack pins what it deploys, so that it cannot change under a running fleet, and sets what no role can guess."""

import re
import urllib.parse
from collections.abc import Iterator

from fleet.stack.rules.rule import MachinePlan, Rule, StackFinding, at_key

IMAGE = re.compile(r"^[^@\s]+@sha256:[0-9a-f]{64}$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")
NAMED_IMAGE = "REPOSITORY@sha256:<64 hex>"
PIN = "pin"  # the verb that replaces a tag or branch by what it names now
# The only hub whose own checksums are trusted (roles/weights: _weights_hub).
HUB = "https://huggingface.co"
NEEDED = {
    "transformers_base_image": NAMED_IMAGE,
    "transformers_commit": "40 hex digits",
    "weights_revision": "40 hex digits",
}


def pinned(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield a base image without a digest, and transformers or weights without a full commit."""
    base = plan.values.get("transformers_base_image")
    if base and not IMAGE.match(str(base)):
        yield at_key("transformers_base_image", "an image without digest", NAMED_IMAGE, base, PIN)
    for key in ("transformers_commit", "weights_revision"):
        value = plan.values.get(key)
        if value and not COMMIT.match(str(value)):
            yield at_key(key, "not a full commit", "40 hex digits", value, PIN)


def named(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield each variable that the stack must set and does not."""
    for key, form in NEEDED.items():
        if not plan.values.get(key):
            yield at_key(key, "this variable is missing", form)


def weights_listed(plan: MachinePlan) -> Iterator[StackFinding]:
    """Yield weights from another hub than HUB, without checksums in the stack file. Never shows a login."""
    endpoint = str(plan.values.get("weights_endpoint") or HUB)
    if endpoint.rstrip("/") != HUB and not plan.values.get("weights_manifest"):
        parts = urllib.parse.urlsplit(endpoint)
        seen = f"empty, and the weights come from {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        yield at_key(
            "weights_manifest", seen, "the sha256 of every file; docs/mirrors.md has the command that prints them"
        )


NAMED = Rule(
    name="named",
    holds="A stack names its base image, its transformers commit and its weights revision.",
    reason="no role can guess them. Does not apply to a source that supplies them (the lab's)",
    source="roles/transformers and roles/weights: these variables have no default",
    check=named,
)
LISTED = Rule(
    name="weights-listed",
    holds="For weights from another hub than https://huggingface.co, `weights_manifest` has the sha256 of every file.",
    reason="a mirror serves its own checksums: anyone who controls it, or the connection to it, chooses which weights are loaded; the role stops without the list",
    source="roles/weights/tasks/preflight.yml; docs/mirrors.md",
    check=weights_listed,
)
# Rules about variables that a source may supply itself, as the lab's does.
UNLESS_SUPPLIED = (NAMED, LISTED)
RULES = (
    Rule(
        name="pinned",
        holds="The stack names the base image by digest, transformers and weights by a full commit.",
        reason="tags and branches move: the next rebuild would deploy other versions. `fleet pin -s ENV` writes what they name now",
        source="project notes on serving, Images and Weights: always pinned",
        check=pinned,
    ),
)
