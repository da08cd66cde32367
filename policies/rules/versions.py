"""The stack names its vLLM version, and that version has no known vulnerability that its flags and routes expose."""

from collections.abc import Callable, Iterator, Mapping

from packaging.version import Version

from fleet.findings import Finding
from fleet.stack.rules.versions import public
from policies import data
from policies.context import Context, on
from policies.rule import ResourceRule


def version_known(context: Context) -> Iterator[Finding]:
    """Yield a missing or malformed version of the base image's vLLM."""
    version = context.var("transformers_base_vllm")
    if version == "":
        yield Finding("transformers_base_vllm is not set")
    elif version is not None and public(version) is None:
        yield Finding(f"transformers_base_vllm is {version!r}, which is not a version")


def no_known_vulnerability(context: Context) -> Iterator[Finding]:
    """Yield each known vulnerability of the served version that these flags expose."""
    image = context.inputs if context.kind == "Rollout" else context.inputs_of("Image")
    version = public(Context("Image", context.name, image).var("transformers_base_vllm")) if image is not None else None
    if version is None:
        return  # not known yet, or reported by the rule above
    exposed = [entry for entry in data.vulnerabilities() if Version(entry.since) <= version < Version(entry.fixed)]
    for entry in exposed:
        if not entry.only or CONDITIONS[entry.only](context):
            path = f", through {entry.path}" if entry.path else ""
            condition = f"; exposed by {EXPOSED_BY[entry.only]}" if entry.only else ""
            yield Finding(
                f"vLLM {version} has {entry.id} ({entry.source})",
                reason=f"{entry.what}{path}{condition}",
                next=f"a base image with vLLM {entry.fixed} or newer, named in transformers_base_image and transformers_base_vllm",
            )


def trusts_remote_code(context: Context) -> bool:
    """Whether the server runs code from the weights' repository."""
    return any(on(value) for value in context.flags("trust-remote-code"))


def has_no_template(context: Context) -> bool:
    """Whether the server has no chat template."""
    templates = context.flags("chat-template") or [context.var("vllm_chat_template")]
    return any(template == "" for template in templates)


def loads_from_hub(context: Context) -> bool:
    """Whether vLLM itself fetches the model: by a revision, or from a place that is no folder on the machine."""
    fetched = [value for value in context.flags("model") if not str(value).startswith("/")]
    return bool(fetched or context.flags("revision") or context.flags("code-revision"))


def runs_batches(context: Context) -> bool:
    """Whether the container runs vLLM's batch runner."""
    words = context.var("vllm_entrypoint")
    return isinstance(words, list) and "run-batch" in words


# The conditions that data/cves.yml may name under `only`.
CONDITIONS: Mapping[str, Callable[[Context], bool]] = {
    "trust-remote-code": trusts_remote_code,
    "no-chat-template": has_no_template,
    "model-from-hub": loads_from_hub,
    "run-batch": runs_batches,
}
EXPOSED_BY = {
    "trust-remote-code": "vllm_flags.trust-remote-code",
    "no-chat-template": "no vllm_chat_template",
    "model-from-hub": "vllm_flags that let vLLM fetch the model itself",
    "run-batch": "vllm_entrypoint",
}


RULES = (
    ResourceRule(
        name="vllm-version-known",
        holds="The stack names the vLLM version in its base image.",
        reason="a digest names no version, and without one no rule knows the vulnerabilities",
        remedy='set transformers_base_vllm beside transformers_base_image, e.g. "0.32.0"; the build checks it in the image',
        source="project notes on serving, Security: the floor depends on version, flags and exposed paths",
        kinds=("Image", "Rollout"),
        check=version_known,
    ),
    ResourceRule(
        name="vllm-cve-floor",
        holds="The served vLLM has no known vulnerability that its flags and routes expose.",
        reason="anyone who reaches the port can exploit it",
        remedy="a newer base image",
        source="policies/data/cves.yml: each vulnerability with its advisory",
        kinds=("Serving", "Rollout"),
        reads=("Image",),
        check=no_known_vulnerability,
    ),
)
