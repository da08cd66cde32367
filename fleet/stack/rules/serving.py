"""Rules about serving: the flags of `vllm serve` fit the model and each other, and the container runs its server with this GPU's settings."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.stack.rules import models
from fleet.stack.rules.rule import MachinePlan, StackFinding, at_key, on, rule, whole

TOOLS = ("tool-call-parser", "enable-auto-tool-choice")
PARSERS = ("tool-call-parser", "reasoning-parser")
PARSER = "glm45"
MODALITIES = ("image", "video", "audio")
# The start of the server's command. Behind a shell, no rule would see its flags.
NUMA = r"(\S*/)?numactl (--\S+ )*"
SERVER = rf"({NUMA})?(\S*/)?(vllm serve|python[0-9.]* -m vllm\.entrypoints\.openai\.api_server) "
# Variables and folder of the compiled kernels and graphs. Role vllm mounts a folder of the host there, for this image and replica.
CACHES = ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "AITER_JIT_DIR")
CACHE = "/var/cache/vllm"


@rule(
    reason="vLLM does not start without it",
    source="vllm/entrypoints/launchers/cli_args.py, validate_parsed_serve_args (0.32.0)",
)
def tools_have_parser(plan: MachinePlan) -> Iterator[StackFinding]:
    """With automatic tool choice, the stack sets a parser of tool calls."""
    parser, choice = (plan.flags.get(flag) for flag in TOOLS)
    if on(choice) and not parser:
        yield at_key("vllm_flags.tool-call-parser", "not set, and enable-auto-tool-choice needs it", PARSER)


@rule(
    reason="otherwise they arrive as text, where clients of the API do not expect them",
    source="project notes on serving, Flags by variant; the model card of GLM-4.6V",
    level="warning",
)
def parsers_of_glm(plan: MachinePlan) -> Iterator[StackFinding]:
    """vLLM parses tool calls and thoughts with glm45, and the model may choose tools."""
    if plan.model is None:
        return
    for flag in PARSERS:
        value = plan.flags.get(flag)
        if value is None:
            content = "thoughts" if flag == "reasoning-parser" else "tool calls"
            yield at_key(f"vllm_flags.{flag}", f"not set: {content} stay in the text of the answer", PARSER)
        elif value != PARSER:
            yield at_key(f"vllm_flags.{flag}", "the model card of GLM-4.6V names another parser", PARSER, value)
    if plan.flags.get("tool-call-parser") and not on(plan.flags.get("enable-auto-tool-choice")):
        yield at_key("vllm_flags.enable-auto-tool-choice", "not set: the model may not choose a tool by itself", "true")


@rule(
    reason="vLLM does not start with a longer limit; GLM-4.6V was trained for 131072 tokens",
    source="project notes on serving, Flags by variant",
)
def context_of_model(plan: MachinePlan) -> Iterator[StackFinding]:
    """No request may be longer than the model's context."""
    if plan.model and plan.context > plan.model.context:
        limit = f"at most {plan.model.context}"
        yield at_key("vllm_flags.max-model-len", "longer than the model's context", limit, plan.context)


@rule(
    reason="otherwise vLLM refuses them minutes later, on every machine at once",
    source="vllm/config/multimodal.py, limit_per_prompt and media_io_kwargs (0.32.0)",
)
def media_limits_read(plan: MachinePlan) -> Iterator[StackFinding]:
    """vLLM can read the limits of pictures and videos."""
    limits = _object(plan.flags.get("limit-mm-per-prompt", {}))
    form = '{"image": 16, "video": 1}: how many a request may have'
    if limits is None:
        yield at_key("vllm_flags.limit-mm-per-prompt", "not a JSON object", form, plan.flags["limit-mm-per-prompt"])
    for kind, limit in (limits or {}).items():
        count = limit.get("count", 999) if isinstance(limit, Mapping) else limit
        if kind not in MODALITIES or not (count == 0 or whole(count)):
            yield at_key("vllm_flags.limit-mm-per-prompt", "not a number of pictures or videos", form, {kind: limit})
    reading = _object(plan.flags.get("media-io-kwargs", {}))
    form = '{"video": {"num_frames": 32}}, or -1 for every frame'
    video = (reading or {}).get("video", {})
    frames = video.get("num_frames", -1) if isinstance(video, Mapping) else None
    if reading is None or not (frames == -1 or whole(frames)):
        yield at_key("vllm_flags.media-io-kwargs", "not a number of frames", form, plan.flags["media-io-kwargs"])


@rule(
    reason="one request can take all memory of the server: videos have already crashed vLLM's EngineCore (GLM-V#150)",
    source="project notes on serving, Known pitfalls; vllm/config/multimodal.py: 999 a modality by default (0.32.0)",
    level="warning",
)
def videos_bounded(plan: MachinePlan) -> Iterator[StackFinding]:
    """Where vLLM decodes every frame of a video, the stack limits the videos of a request."""
    limits, reading = (_object(plan.flags.get(flag, {})) for flag in ("limit-mm-per-prompt", "media-io-kwargs"))
    video = (reading or {}).get("video")
    if isinstance(video, Mapping) and video.get("num_frames") == -1 and limits is not None and "video" not in limits:
        seen = "a request may have 999 videos, and every frame of each is decoded"
        yield at_key("vllm_flags.limit-mm-per-prompt", seen, '{"video": 1}, or another small number')


@rule(
    reason="otherwise each such request fails",
    source="roles/vllm: vllm_network; vllm serve --help: --allowed-media-domains",
)
def media_hosts_reached(plan: MachinePlan) -> Iterator[StackFinding]:
    """Where requests may name media hosts, the container has a network that reaches them."""
    domains = plan.flags.get("allowed-media-domains", [])
    hosts = [str(host) for host in (domains if isinstance(domains, list) else [domains])]
    real = [host for host in hosts if host and host.rpartition(".")[2].lower() != "invalid"]
    if real and plan.network == "none":
        who = "a pod without a way out" if plan.pod else "a container without a network"
        seen = f"requests may name {', '.join(real)}, which {who} does not reach"
        closed = "allowed-media-domains: [none.invalid]"
        if plan.pod:
            yield at_key("vllm_flags.allowed-media-domains", seen, f"vllm_flags.{closed}", hosts)
        else:
            yield at_key("vllm_network", seen, f"bridge; or vllm_flags.{closed}", "none")


@rule(
    reason="the image families have different entrypoints (one serves, one is a shell), so the role replaces it",
    source="project notes on serving, Images; roles/vllm/templates/replica.service.j2",
)
def entrypoint_serves(plan: MachinePlan) -> Iterator[StackFinding]:
    """The container's command is vLLM's server."""
    entrypoint = plan.values.get("vllm_entrypoint")
    words = [str(word) for word in entrypoint] if isinstance(entrypoint, list) else []
    if words and not re.match(SERVER, " ".join([*words, ""])):
        wanted = "[vllm, serve], or [python3, -m, vllm.entrypoints.openai.api_server]: neither a shell nor the image's own entrypoint"
        yield at_key("vllm_entrypoint", "does not start vLLM's server", wanted, words)


@rule(
    reason="rocm/vllm and rocm/vllm-dev no longer get fixes",
    source="project notes on serving, Images",
    level="warning",
)
def image_maintained(plan: MachinePlan) -> Iterator[StackFinding]:
    """The base image is of a maintained family."""
    image = str(plan.values.get("transformers_base_image", ""))
    name = re.sub(r"(:[^/:@]+)?(@.*)?$", "", image)
    families = models.read("versions")["images"]
    maintained = ", ".join(entry["family"] for entry in families if entry["maintained"])
    if any(not entry["maintained"] and f"/{name}".endswith(f"/{entry['family']}") for entry in families):
        seen = "deprecated upstream since January 2026"
        yield at_key("transformers_base_image", seen, f"{maintained}, by digest", image)


@rule(
    reason="vLLM leaves them off by default, and its own recipe for this model turns them on",
    source="vllm#56945; project notes on serving, Environment",
    level="warning",
)
def aiter_on(plan: MachinePlan) -> Iterator[StackFinding]:
    """vLLM uses AITER's kernels."""
    value = plan.environment.get("VLLM_ROCM_USE_AITER")
    if plan.model and not on(value):
        wanted = '"1"; when a kernel crashes, first VLLM_ROCM_USE_AITER_FP4BMM: "0", then VLLM_ROCM_USE_AITER_MOE: "0"'
        seen = "off: 1.7 to 3.7 times slower"
        yield at_key("vllm_environment.VLLM_ROCM_USE_AITER", seen, wanted, "" if value is None else value)


@rule(
    reason="without that folder each start compiles for minutes; kernels of another image crash the server",
    source="project notes on serving, Environment; roles/vllm/vars/main.yml",
    level="warning",
)
def caches_kept(plan: MachinePlan) -> Iterator[StackFinding]:
    """Compiled kernels stay in the folder that role vllm keeps for the image."""
    for name in CACHES:
        value = plan.environment.get(name)
        if value is not None and not str(value).startswith(f"{CACHE}/"):
            seen = "not in the cache folder of this image: every start compiles again, or uses another image's kernels"
            yield at_key(f"vllm_environment.{name}", seen, f"leave it out, or set a folder below {CACHE}", value)
    home = plan.values.get("vllm_home", CACHE)
    if not f"{home}/".startswith(f"{CACHE}/"):
        seen = "not in the cache folder of this image: AITER builds code there and loads it, which the container's in-memory file systems forbid"
        yield at_key("vllm_home", seen, f"leave it out, or set a folder below {CACHE}", home)


def _object(value: Any) -> Mapping[str, Any] | None:
    """Return the mapping that a flag holds, itself or as JSON; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, Mapping) else None
