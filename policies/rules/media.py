"""What a request can make the server read: files, URLs, templates, code."""

import re
from collections.abc import Iterator

from fleet.findings import Finding
from policies import data
from policies.context import UNKNOWN, Context, folder, inside, on, value_at
from policies.rule import ResourceRule
from policies.rules.versions import has_no_template, trusts_remote_code

HOST = re.compile(r"^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$")
# The machine itself, and the addresses at which clouds hand out credentials.
INNER = re.compile(
    r"^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|169\.254\.\d+\.\d+|metadata\.google\.internal)$", re.I
)


def media_path_narrow(context: Context) -> Iterator[Finding]:
    """Yield each media path that opens a private folder."""
    folders = [("vllm_media_dir", context.var("vllm_media_dir"))]
    folders += [("vllm_flags.allowed-local-media-path", value) for value in context.flags("allowed-local-media-path")]
    for name, path in folders:
        if path in (None, ""):
            continue
        if not isinstance(path, str) or not path.startswith("/"):
            yield Finding(
                f"{name} is {path!r}, which is not an absolute path", reason="no rule can check which files it opens"
            )
            continue
        if folder(path) == "/":
            yield Finding(
                f"{name} is /", reason="any client of the API can then read every file that the server can read"
            )
            continue
        for private in data.private():
            if inside(private.path, folder(path)) or (private.below and inside(folder(path), private.path)):
                yield Finding(f"{name} is {path}, which opens {private.path}", reason=private.why)
                break


def media_domains_named(context: Context) -> Iterator[Finding]:
    """Yield a missing list of hosts, and each host that is malformed or internal."""
    if context.var("vllm_flags") is None:
        return
    values = context.flags("allowed-media-domains")
    lists = [value for value in values if value not in ("", [], True)]
    if not values or len(lists) < len(values):
        yield Finding("vllm_flags.allowed-media-domains names no domain")
    for domain in (domain for value in lists for domain in (value if isinstance(value, list) else [value])):
        if domain is UNKNOWN:
            continue
        entry = f"vllm_flags.allowed-media-domains has {domain!r}"
        if not HOST.match(str(domain)):
            yield Finding(
                f"{entry}, which is not a host name",
                reason="vLLM compares whole host names: a scheme, port, path or wildcard never matches",
            )
        elif INNER.match(str(domain)):
            yield Finding(
                entry, reason="requests could then reach the machine's own services, or a cloud's credentials"
            )
    if on(value_at(context.var("vllm_environment") or {}, "VLLM_MEDIA_URL_ALLOW_REDIRECTS")):
        yield Finding(
            "vllm_environment.VLLM_MEDIA_URL_ALLOW_REDIRECTS is on",
            reason="an allowed server can redirect vLLM to any other",
            next='leave it out: the role sets "0"',
        )


def template_of_our_own(context: Context) -> Iterator[Finding]:
    """Yield a chat template that the model's repository or a request would supply."""
    if has_no_template(context):
        yield Finding("no chat template is given")
    if any(on(value) for value in context.flags("trust-request-chat-template")):
        yield Finding(
            "vllm_flags.trust-request-chat-template is on",
            reason="a request can bring its own template, which the server runs",
        )


def no_remote_code(context: Context) -> Iterator[Finding]:
    """Yield the flag that runs code from the model's repository."""
    if trusts_remote_code(context):
        yield Finding("vllm_flags.trust-remote-code is on")


RULES = (
    ResourceRule(
        name="media-path-narrow",
        holds="Requests may name only files (file://) of a folder that holds no secret.",
        reason="any client of the API can read every file in it",
        remedy="a folder that holds only media, e.g. vllm_media_dir and vllm_flags.allowed-local-media-path /srv/media; or neither",
        source="project notes on serving, Security; vLLM documentation, Security: --allowed-local-media-path; policies/data/private_paths.yml",
        kinds=("Serving", "Rollout"),
        check=media_path_narrow,
    ),
    ResourceRule(
        name="media-domains-named",
        holds="The stack names the hosts from which the server fetches media.",
        reason="vLLM otherwise fetches any URL that a request names, also in the machine's own network",
        remedy="vllm_flags.allowed-media-domains: [HOST, …]; [none.invalid] where requests use only data: URLs",
        source="project notes on serving, Security; vLLM documentation, Security: --allowed-media-domains",
        kinds=("Serving", "Rollout"),
        check=media_domains_named,
    ),
    ResourceRule(
        name="chat-template-given",
        holds="The server has a chat template, and accepts none from a request.",
        reason="a request can then bring one that blocks the server (CVE-2026-115911, CVE-2026-115918)",
        remedy="leave vllm_chat_template at chat_template.jinja of the verified weights, or name a file on the machine",
        source="CVE-2026-115911, CVE-2026-115918 (PYSEC-2026-4349)",
        kinds=("Serving", "Rollout"),
        check=template_of_our_own,
    ),
    ResourceRule(
        name="no-remote-code",
        holds="The server runs no code from the weights' repository.",
        reason="GLM-4.6V does not need it, and a request can choose which code runs (CVE-2026-114053)",
        remedy="leave it out",
        source="CVE-2026-114053; project notes on serving, Security",
        kinds=("Serving", "Rollout"),
        check=no_remote_code,
    ),
)
