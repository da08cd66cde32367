"""Which vLLM is served is known before it is deployed, and has no known hole that its flags and routes leave open."""

from collections.abc import Callable, Iterator, Mapping

from packaging.version import Version

from fleet.stack.rules.versions import public
from policies import data
from policies.asked import Asked, on
from policies.rule import Breach, Rule


def version_known(asked: Asked) -> Iterator[Breach]:
    """Yield where the stack does not say which vLLM its base image holds."""
    told = asked.var("transformers_base_vllm")
    if told == "":
        yield Breach("transformers_base_vllm is not set")
    elif told is not None and public(told) is None:
        yield Breach(f"transformers_base_vllm is {told!r}, which is no version")


def no_known_hole(asked: Asked) -> Iterator[Breach]:
    """Yield each hole that is open in the version that is served, with these flags."""
    image = asked.other("Image")
    version = public(Asked("Image", asked.name, image).var("transformers_base_vllm")) if image is not None else None
    if version is None:
        return  # not known yet, or told by the rule above
    open_holes = [hole for hole in data.holes() if Version(hole.since) <= version < Version(hole.fixed)]
    for hole in open_holes:
        if not hole.only or CONDITIONS[hole.only](asked):
            path = f", through {hole.path}" if hole.path else ""
            condition = f"; open because of {SAID[hole.only]}" if hole.only else ""
            yield Breach(
                f"vLLM {version} has {hole.id} ({hole.source})",
                f"{hole.what}{path}{condition}",
                f"a base image with vLLM {hole.fixed} or newer, named in transformers_base_image and transformers_base_vllm",
            )


def trusts_remote_code(asked: Asked) -> bool:
    """Whether code from the weights' repository is run."""
    return any(on(value) for value in asked.flags("trust-remote-code"))


def has_no_template(asked: Asked) -> bool:
    """Whether the server has no chat template of its own."""
    given = asked.flags("chat-template") or [asked.var("vllm_chat_template")]
    return any(value == "" for value in given)


def loads_from_hub(asked: Asked) -> bool:
    """Whether vLLM itself fetches: by a revision, or a model that is no folder on the machine."""
    fetched = [value for value in asked.flags("model") if not str(value).startswith("/")]
    return bool(fetched or asked.flags("revision") or asked.flags("code-revision"))


def runs_batches(asked: Asked) -> bool:
    """Whether the container runs vLLM's batch runner."""
    words = asked.var("vllm_entrypoint")
    return isinstance(words, list) and "run-batch" in words


# The conditions that data/cves.yml may name.
CONDITIONS: Mapping[str, Callable[[Asked], bool]] = {
    "trust-remote-code": trusts_remote_code,
    "no-chat-template": has_no_template,
    "model-from-hub": loads_from_hub,
    "run-batch": runs_batches,
}
SAID = {
    "trust-remote-code": "vllm_flags.trust-remote-code",
    "no-chat-template": "no vllm_chat_template",
    "model-from-hub": "vllm_flags that let vLLM fetch the model itself",
    "run-batch": "vllm_entrypoint",
}


RULES = (
    Rule(
        name="vllm-version-known",
        holds="The stack says which vLLM its base image holds.",
        reason="a digest tells no version, and without one nobody knows which holes are open",
        remedy='set transformers_base_vllm beside transformers_base_image, e.g. "0.32.0"; the build checks it in the image',
        source="project notes on serving, Security: the floor depends on version, flags and exposed paths",
        kinds=("Image",),
        judge=version_known,
    ),
    Rule(
        name="vllm-cve-floor",
        holds="The vLLM that is served has no known hole that its flags and its routes leave open.",
        reason="whoever reaches the port can use it",
        remedy="a newer base image",
        source="policies/data/cves.yml: each hole with its advisory",
        kinds=("Serving",),
        reads=("Image",),
        judge=no_known_hole,
    ),
)
