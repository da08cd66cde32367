"""What a plan names, it names so that it cannot move under a running fleet; and what no role can guess is named."""

import re
import urllib.parse
from collections.abc import Iterator

from fleet.stack.rules.rule import Planned, Rule, StackFinding, at_key

IMAGE = re.compile(r"^[^@\s]+@sha256:[0-9a-f]{64}$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")
NAMED_IMAGE = "REPOSITORY@sha256:<64 hex>"
PIN = "pin"  # the verb that writes what a tag or branch names now
# The hub whose own sums count (roles/weights: _weights_hub).
HUB = "https://huggingface.co"
NEEDED = {
    "transformers_base_image": NAMED_IMAGE,
    "transformers_commit": "40 hex digits",
    "weights_revision": "40 hex digits",
}


def pinned(planned: Planned) -> Iterator[StackFinding]:
    """Yield an image without a digest, a source or weights without a full commit."""
    base = planned.values.get("transformers_base_image")
    if base and not IMAGE.match(str(base)):
        yield at_key("transformers_base_image", "an image without digest", NAMED_IMAGE, base, PIN)
    for key in ("transformers_commit", "weights_revision"):
        value = planned.values.get(key)
        if value and not COMMIT.match(str(value)):
            yield at_key(key, "not a full commit", "40 hex digits", value, PIN)


def named(planned: Planned) -> Iterator[StackFinding]:
    """Yield what nobody has named."""
    for key, wanted in NEEDED.items():
        if not planned.values.get(key):
            yield at_key(key, "this variable is missing", wanted)


def listed(planned: Planned) -> Iterator[StackFinding]:
    """Yield weights from a hub that vouches for nothing, without our own sums."""
    endpoint = str(planned.values.get("weights_endpoint") or HUB)
    if endpoint.rstrip("/") != HUB and not planned.values.get("weights_manifest"):
        parts = urllib.parse.urlsplit(endpoint)  # a login in it is not shown
        seen = f"empty, and the weights come from {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        yield at_key(
            "weights_manifest", seen, "the sha256 of every file; docs/mirrors.md has the command that prints them"
        )


NAMED = Rule(
    name="named",
    holds="A stack names its base image, its transformers commit and its weights revision.",
    reason="no role can guess them; a source that brings them (the lab's) is not asked",
    source="roles/transformers and roles/weights: these variables have no default",
    check=named,
)
LISTED = Rule(
    name="weights-listed",
    holds="Weights that do not come from upstream's hub over TLS are named file by file in `weights_manifest`.",
    reason="the sums that a mirror serves are the mirror's own: whoever has it, or the line to it, chooses what is loaded; the role stops without them",
    source="roles/weights/tasks/preflight.yml; docs/mirrors.md",
    check=listed,
)
# Of what a source may bring itself: such a source (the lab's) is not asked.
BROUGHT = (NAMED, LISTED)
RULES = (
    Rule(
        name="pinned",
        holds="The base image is named by digest, sources and weights by a full commit.",
        reason="tags and branches move: the next rebuild would be another fleet. `fleet pin -s ENV` writes what they name now",
        source="project notes on serving, Images and Weights: always pinned",
        check=pinned,
    ),
)
