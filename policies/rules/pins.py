"""What is deployed is named so that it cannot change under a running fleet, and is nothing of the lab's."""

import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping

from policies.context import Context, known
from policies.rule import Rule, Violation

# An image that was built on its node and never pushed has an id, which is a digest, and no repository.
DIGEST = re.compile(r"^([^@\s]+@)?sha256:[0-9a-f]{64}$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")
LAB = re.compile(r"(?<![A-Za-z0-9-])([a-z0-9-]+\.)*lab\.internal(?![A-Za-z0-9-]|\.[A-Za-z0-9])", re.I)


def image_by_digest(context: Context) -> Iterator[Violation]:
    """Yield each image that is named otherwise: the one that is served, the one that it is built from."""
    images = {"image": known(context.inputs, "image"), "vllm_image": known(context.inputs, "vars", "vllm_image")}
    if context.kind == "Image":
        images = {"transformers_base_image": context.var("transformers_base_image")}
    for name, image in images.items():
        if image is not None and not DIGEST.match(str(image)):
            yield Violation(f"{name} is {image!r}" if image else f"{name} is not set")


def full_commit(variable: str) -> Callable[[Context], Iterator[Violation]]:
    """Return the judge of a variable that must hold 40 hex digits."""

    def judge(context: Context) -> Iterator[Violation]:
        value = context.var(variable)
        if value is not None and not COMMIT.match(str(value)):
            yield Violation(f"{variable} is {value!r}" if value else f"{variable} is not set")

    return judge


def closed_list(context: Context) -> Iterator[Violation]:
    """Yield weights from another hub than the role's own, or without TLS, where their sums are the hub's; a login is not shown."""
    endpoint, manifest = context.var("weights_endpoint"), context.var("weights_manifest")
    if endpoint is None or manifest is None or manifest:
        return
    if str(endpoint).rstrip("/") != context.default("weights_endpoint"):
        address = urllib.parse.urlsplit(str(endpoint))
        yield Violation(
            f"weights_manifest is empty, and the weights come from {address.scheme}://{address.netloc.rpartition('@')[2]}"
        )


def nothing_of_the_lab(context: Context) -> Iterator[Violation]:
    """Yield what names a host of the lab's network; the value is left out, since a URL may hold a login."""
    if context.stack.lab:
        return
    variables = known(context.inputs, "vars")
    values = {"image": known(context.inputs, "image"), **(variables if isinstance(variables, Mapping) else {})}
    for name, value in values.items():
        if host := LAB.search(repr(value)):
            yield Violation(f"{name} names {host.group()}")


RULES = (
    Rule(
        name="image-by-digest",
        holds="The serving image, and the base that it is built from, are named by digest.",
        reason="a tag can name other bytes tomorrow, on one node and not on the next",
        remedy="`fleet pin -s ENV` writes REPOSITORY@sha256:<64 hex> in the place of a tag",
        source="project notes on serving, Images: both image families move, always pinned by digest",
        kinds=("Image", "Serving"),
        judge=image_by_digest,
    ),
    Rule(
        name="transformers-by-commit",
        holds="transformers is built from a full commit.",
        reason="a branch or a tag moves, and a short commit can name two",
        remedy="`fleet pin -s ENV` writes the 40 hex digits in the place of a branch or tag",
        source="project notes on serving, Versions: only a source build of a known commit has been checked with the image's vLLM",
        kinds=("Image",),
        judge=full_commit("transformers_commit"),
    ),
    Rule(
        name="weights-by-revision",
        holds="The weights are those of a full revision.",
        reason="a branch of the hub moves, and its files then differ from machine to machine",
        remedy="`fleet pin -s ENV` writes the 40 hex digits in the place of a branch",
        source="project notes on serving, Weights: pin a revision SHA",
        kinds=("Weights",),
        judge=full_commit("weights_revision"),
    ),
    Rule(
        name="weights-by-manifest",
        holds="Weights of a hub other than upstream's, or fetched without TLS, are named file by file.",
        reason="the sums that a mirror serves are the mirror's own: whoever has it, or the line to it, chooses what is loaded",
        remedy="put the sha256 of every file into weights_manifest: docs/mirrors.md has the command that prints them",
        source="docs/mirrors.md: what a mirror need not be trusted for, and what it must be",
        kinds=("Weights",),
        judge=closed_list,
    ),
    Rule(
        name="nothing-of-the-lab",
        holds="Outside the lab, no image, registry or mirror of the lab is used.",
        reason="the lab's mirrors stand in for others: their keys are made on the spot, their model sees nothing but test pictures",
        remedy="name your own registry, repositories and hub; `*.lab.internal` belongs in stacks whose source is lab",
        source="README, What is real in the lab, and what stands in",
        kinds=("Host", "Image", "Weights", "Serving"),
        judge=nothing_of_the_lab,
    ),
)
