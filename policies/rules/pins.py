"""Everything deployed is pinned, so that it cannot change under a running fleet; nothing comes from the lab."""

import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fleet.findings import Finding
from fleet.stack.rules import members
from policies import pods
from policies.context import Context, value_at
from policies.rule import ResourceRule

# An image that its node built and never pushed has an id, which is a digest, and no repository.
DIGEST = re.compile(r"^([^@\s]+@)?sha256:[0-9a-f]{64}$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")
LAB = re.compile(r"(?<![A-Za-z0-9-])([a-z0-9-]+\.)*lab\.internal(?![A-Za-z0-9-]|\.[A-Za-z0-9])", re.I)


def image_by_digest(context: Context) -> Iterator[Finding]:
    """Yield each image without a digest: the serving image, and its base image."""
    if context.kind in pods.PODS:
        for name, image in pods.images(context):
            if image is not None and not (DIGEST.match(str(image)) and "@" in str(image)):
                yield Finding(f"the image of {name} in {context.kind} {context.name} is {image!r}")
        return
    images = {"image": value_at(context.inputs, "image"), "vllm_image": value_at(context.inputs, "vars", "vllm_image")}
    if context.kind == "Rollout":  # its pods have the same, by the rule above
        del images["vllm_image"]
    if context.kind == "Image":
        images = {"transformers_base_image": context.var("transformers_base_image")}
    if context.kind == "Member":
        images = member_images(context)
    for name, image in images.items():
        if image is not None and not DIGEST.match(str(image)):
            yield Finding(f"{name} is {image!r}" if image else f"{name} is not set")


def member_images(context: Context) -> dict[str, Any]:
    """Return the images that a member of an own cluster runs besides Kubernetes' own, of those that are set."""
    manifest, replaced = context.var("kubernetes_network_manifest"), context.var("kubernetes_network_images")
    images = {name: context.var(name) for name in members.IMAGES}
    if manifest:
        del images["kubernetes_network_image"]
        images |= {f"kubernetes_network_images.{name}": image for name, image in (replaced or {}).items()}
    return {name: image for name, image in images.items() if image}


def full_commit(variable: str) -> Callable[[Context], Iterator[Finding]]:
    """Return the check of a variable that must hold 40 hex digits."""

    def check(context: Context) -> Iterator[Finding]:
        value = context.var(variable)
        if value is not None and not COMMIT.match(str(value)):
            yield Finding(f"{variable} is {value!r}" if value else f"{variable} is not set")

    return check


def weights_revision(context: Context) -> Iterator[Finding]:
    """Yield a revision of the weights that is none: of the role's variable, or in the command of a Job."""
    if context.kind == "Job":
        for value in pods.words(context, "--revision"):
            if not COMMIT.match(value):
                yield Finding(f"Job {context.name} fetches revision {value!r}")
    else:
        yield from full_commit("weights_revision")(context)


def closed_list(context: Context) -> Iterator[Finding]:
    """Yield a mirror whose sums nothing confirms: another hub than the role's default, or no TLS. Never shows a login."""
    endpoint, manifest = context.var("weights_endpoint"), context.var("weights_manifest")
    if endpoint is None or manifest is None or manifest:
        return
    if str(endpoint).rstrip("/") != context.default("weights_endpoint"):
        address = urllib.parse.urlsplit(str(endpoint))
        yield Finding(
            f"weights_manifest is empty, and the weights come from {address.scheme}://{address.netloc.rpartition('@')[2]}"
        )


def nothing_of_the_lab(context: Context) -> Iterator[Finding]:
    """Yield each variable that names a host of the lab. Omits the value, since a URL may hold a login."""
    if context.stack.lab:
        return
    variables = value_at(context.inputs, "vars")
    values = {"image": value_at(context.inputs, "image"), **(variables if isinstance(variables, Mapping) else {})}
    for name, value in values.items():
        if host := LAB.search(repr(value)):
            yield Finding(f"{name} names {host.group()}")


RULES = (
    ResourceRule(
        name="image-by-digest",
        holds="The serving image and its base image are named by digest; so are, in a cluster of own machines, network engine and device plugin.",
        reason="a tag can name another image tomorrow, and differ between nodes",
        remedy="`fleet pin -s ENV` replaces a tag by REPOSITORY@sha256:<64 hex>",
        source="project notes on serving, Images: both image families move, always pinned by digest",
        kinds=("Image", "Serving", "Rollout", "Member", *pods.PODS),
        check=image_by_digest,
    ),
    ResourceRule(
        name="transformers-by-commit",
        holds="The image builds transformers from a full commit.",
        reason="a branch or a tag moves, and a short commit can match two",
        remedy="`fleet pin -s ENV` replaces a branch or tag by the 40 hex digits",
        source="project notes on serving, Versions: only a source build of a known commit has been checked with the image's vLLM",
        kinds=("Image",),
        check=full_commit("transformers_commit"),
    ),
    ResourceRule(
        name="weights-by-revision",
        holds="The weights come from a full revision.",
        reason="a branch of the hub moves, and machines then hold different files",
        remedy="`fleet pin -s ENV` replaces a branch by the 40 hex digits",
        source="project notes on serving, Weights: pin a revision SHA",
        kinds=("Weights", "Job"),
        check=weights_revision,
    ),
    ResourceRule(
        name="weights-by-manifest",
        holds="For weights from a mirror, or without TLS, the stack file names the sha256 of every file.",
        reason="a mirror serves its own sums: anyone who controls it, or the connection to it, chooses which weights are loaded",
        remedy="put the sha256 of every file into weights_manifest: docs/mirrors.md has the command that prints them",
        source="docs/mirrors.md: what a mirror need not be trusted for, and what it must be",
        kinds=("Weights", "Rollout"),
        check=closed_list,
    ),
    ResourceRule(
        name="nothing-of-the-lab",
        holds="Outside the lab, a stack uses no image, registry or mirror of the lab.",
        reason="the lab's mirrors are stand-ins: the lab makes their keys itself, and their model knows only the probes' pictures",
        remedy="name your own registry, repositories and hub; `*.lab.internal` is only for stacks whose source is lab",
        source="README, What is real in the lab, and what stands in",
        kinds=("Host", "Image", "Weights", "Serving", "Rollout", "Member"),
        check=nothing_of_the_lab,
    ),
)
