"""The flags of `vllm serve` fit the model and each other; the container runs a server, with the settings that this GPU wants."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.stack.rules import models
from fleet.stack.rules.rule import Planned, Rule, StackFinding, at_key, on, whole

TOOLS = ("tool-call-parser", "enable-auto-tool-choice")
PARSERS = ("tool-call-parser", "reasoning-parser")
PARSER = "glm45"
MODALITIES = ("image", "video", "audio")
# How the command of an OpenAI-compatible server begins. Behind a shell no rule would see its flags.
NUMA = r"(\S*/)?numactl (--\S+ )*"
SERVER = rf"({NUMA})?(\S*/)?(vllm serve|python[0-9.]* -m vllm\.entrypoints\.openai\.api_server) "
# Where role vllm keeps compiled kernels and graphs: a folder of the host for this image and replica.
CACHES = ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "AITER_JIT_DIR")
CACHE = "/var/cache/vllm"


def tools(planned: Planned) -> Iterator[StackFinding]:
    """Yield automatic tool choice without a parser; vLLM does not start with it."""
    parser, choice = (planned.flags.get(flag) for flag in TOOLS)
    if on(choice) and not parser:
        yield at_key("vllm_flags.tool-call-parser", "enable-auto-tool-choice needs one", PARSER)


def parsers(planned: Planned) -> Iterator[StackFinding]:
    """Yield what leaves calls of tools, or thoughts, in the text of the answer."""
    if planned.model is None:
        return
    for flag in PARSERS:
        value = planned.flags.get(flag)
        if value is None:
            what = "thoughts" if flag == "reasoning-parser" else "calls of tools"
            yield at_key(f"vllm_flags.{flag}", f"not set: {what} stay in the text of the answer", PARSER)
        elif value != PARSER:
            yield at_key(f"vllm_flags.{flag}", "not the one that the model card names for GLM-4.6V", PARSER, value)
    if planned.flags.get("tool-call-parser") and not on(planned.flags.get("enable-auto-tool-choice")):
        yield at_key("vllm_flags.enable-auto-tool-choice", "not set: the model may not choose a tool by itself", "true")


def context(planned: Planned) -> Iterator[StackFinding]:
    """Yield a longest request that is longer than the model's context."""
    if planned.model and planned.context > planned.model.context:
        most = f"at most {planned.model.context}"
        yield at_key("vllm_flags.max-model-len", "longer than the model's context", most, planned.context)


def media(planned: Planned) -> Iterator[StackFinding]:
    """Yield limits of pictures and videos that vLLM cannot read."""
    limits = _object(planned.flags.get("limit-mm-per-prompt", {}))
    form = '{"image": 16, "video": 1}: how many a request may have'
    if limits is None:
        yield at_key("vllm_flags.limit-mm-per-prompt", "not a JSON object", form, planned.flags["limit-mm-per-prompt"])
    for kind, told in (limits or {}).items():
        most = told.get("count", 999) if isinstance(told, Mapping) else told
        if kind not in MODALITIES or not (most == 0 or whole(most)):
            yield at_key("vllm_flags.limit-mm-per-prompt", "no number of pictures or videos", form, {kind: told})
    reading = _object(planned.flags.get("media-io-kwargs", {}))
    form = '{"video": {"num_frames": 32}}, or -1 for all of its frames'
    video = (reading or {}).get("video", {})
    frames = video.get("num_frames", -1) if isinstance(video, Mapping) else None
    if reading is None or not (frames == -1 or whole(frames)):
        yield at_key("vllm_flags.media-io-kwargs", "not a number of frames", form, planned.flags["media-io-kwargs"])


def videos(planned: Planned) -> Iterator[StackFinding]:
    """Yield videos without a bound: every frame of up to 999 of them in one request."""
    limits, reading = (_object(planned.flags.get(flag, {})) for flag in ("limit-mm-per-prompt", "media-io-kwargs"))
    video = (reading or {}).get("video")
    if isinstance(video, Mapping) and video.get("num_frames") == -1 and limits is not None and "video" not in limits:
        seen = "a request may have 999 videos, and every frame of each is decoded"
        yield at_key("vllm_flags.limit-mm-per-prompt", seen, '{"video": 1}, or another small number')


def media_hosts(planned: Planned) -> Iterator[StackFinding]:
    """Yield media hosts that a container without a network cannot reach."""
    told = planned.flags.get("allowed-media-domains", [])
    hosts = [str(one) for one in (told if isinstance(told, list) else [told])]
    real = [one for one in hosts if one and one.rpartition(".")[2].lower() != "invalid"]
    if real and planned.network == "none":
        seen = f"requests may name {', '.join(real)}, which a container without a network does not reach"
        yield at_key("vllm_network", seen, "bridge; or vllm_flags.allowed-media-domains: [none.invalid]", "none")


def entrypoint(planned: Planned) -> Iterator[StackFinding]:
    """Yield a command that does not start the server."""
    told = planned.values.get("vllm_entrypoint")
    words = [str(word) for word in told] if isinstance(told, list) else []
    if words and not re.match(SERVER, " ".join([*words, ""])):
        wanted = "[vllm, serve], or [python3, -m, vllm.entrypoints.openai.api_server]: neither a shell nor the image's own entrypoint"
        yield at_key("vllm_entrypoint", "does not start vLLM's server", wanted, words)


def family(planned: Planned) -> Iterator[StackFinding]:
    """Yield an image of a family that is no longer maintained."""
    image = str(planned.values.get("transformers_base_image", ""))
    name = re.sub(r"(:[^/:@]+)?(@.*)?$", "", image)
    families = models.read("versions")["images"]
    kept = ", ".join(one["family"] for one in families if one["maintained"])
    for one in families:
        if not one["maintained"] and f"/{name}".endswith(f"/{one['family']}"):
            yield at_key(
                "transformers_base_image", "deprecated upstream since January 2026", f"{kept}, by digest", image
            )


def aiter(planned: Planned) -> Iterator[StackFinding]:
    """Yield AITER that is off."""
    value = planned.environment.get("VLLM_ROCM_USE_AITER")
    if planned.model and not on(value):
        wanted = '"1"; when a kernel crashes, first VLLM_ROCM_USE_AITER_FP4BMM: "0", then VLLM_ROCM_USE_AITER_MOE: "0"'
        seen = "off: 1.7 to 3.7 times slower"
        yield at_key("vllm_environment.VLLM_ROCM_USE_AITER", seen, wanted, "" if value is None else value)


def caches(planned: Planned) -> Iterator[StackFinding]:
    """Yield caches that are lost at each start, or outlive the image that they were compiled for."""
    for name in CACHES:
        value = planned.environment.get(name)
        if value is not None and not str(value).startswith(f"{CACHE}/"):
            seen = "not in the folder that is kept for this image: every start compiles again, or with another image's kernels"
            yield at_key(f"vllm_environment.{name}", seen, f"leave it out, or a folder below {CACHE}", value)
    home = planned.values.get("vllm_home", CACHE)
    if not f"{home}/".startswith(f"{CACHE}/"):
        seen = "not in the folder that is kept for this image: AITER builds code there and loads it, which no file system in memory allows"
        yield at_key("vllm_home", seen, f"leave it out, or a folder below {CACHE}", home)


def _object(told: Any) -> Mapping[str, Any] | None:
    """Return a flag that is an object, as a mapping or as JSON; None for anything else."""
    if isinstance(told, str):
        try:
            told = json.loads(told)
        except ValueError:
            return None
    return told if isinstance(told, Mapping) else None


RULES = (
    Rule(
        name="tools-have-parser",
        holds="Automatic tool choice comes with a parser of tool calls.",
        reason="vLLM refuses one without the other at the start",
        source="vllm/entrypoints/launchers/cli_args.py, validate_parsed_serve_args (0.32.0)",
        check=tools,
    ),
    Rule(
        name="parsers-of-glm",
        holds="Tool calls and thoughts are parsed with glm45, and the model may choose tools.",
        reason="else they arrive as text, which clients of the API do not look for",
        source="project notes on serving, Flags by variant; the model card of GLM-4.6V",
        check=parsers,
        level="warning",
    ),
    Rule(
        name="context-of-model",
        holds="No request may be longer than the model's context.",
        reason="vLLM refuses a longer one at the start; 131072 tokens are what GLM-4.6V was trained for",
        source="project notes on serving, Flags by variant",
        check=context,
    ),
    Rule(
        name="media-limits-read",
        holds="Limits of pictures and videos are what vLLM can read.",
        reason="vLLM refuses them minutes later, on every machine at once",
        source="vllm/config/multimodal.py, limit_per_prompt and media_io_kwargs (0.32.0)",
        check=media,
    ),
    Rule(
        name="videos-bounded",
        holds="Where every frame of a video is decoded, a request has few videos.",
        reason="one request can take all memory of the server: videos have ended EngineCore before (GLM-V#150)",
        source="project notes on serving, Known pitfalls; vllm/config/multimodal.py: 999 a modality by default (0.32.0)",
        check=videos,
        level="warning",
    ),
    Rule(
        name="media-hosts-reached",
        holds="Where requests may name media hosts, the container has a network that leads there.",
        reason="each such request would fail",
        source="roles/vllm: vllm_network; vllm serve --help: --allowed-media-domains",
        check=media_hosts,
    ),
    Rule(
        name="entrypoint-serves",
        holds="The container's command is vLLM's server.",
        reason="image families differ in their own entrypoint (one serves, one is a shell), so the role replaces it",
        source="project notes on serving, Images; roles/vllm/templates/replica.service.j2",
        check=entrypoint,
    ),
    Rule(
        name="image-maintained",
        holds="The base image is of a family that is maintained.",
        reason="rocm/vllm and rocm/vllm-dev get no fixes any more",
        source="project notes on serving, Images",
        check=family,
        level="warning",
    ),
    Rule(
        name="aiter-on",
        holds="AITER's kernels are used.",
        reason="vLLM leaves them off by default, and its own recipe for this model turns them on",
        source="vllm#56945; project notes on serving, Environment",
        check=aiter,
        level="warning",
    ),
    Rule(
        name="caches-kept",
        holds="Compiled kernels stay in the folder that role vllm keeps for the image.",
        reason="without it each start compiles for minutes; shared between images it crashes",
        source="project notes on serving, Environment; roles/vllm/vars/main.yml",
        check=caches,
        level="warning",
    ),
)
