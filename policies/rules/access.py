"""Who may use the server, where it listens, and whether its settings can be checked at all."""

from collections.abc import Iterator, Mapping

from fleet.findings import Finding
from policies import pods
from policies.context import Context, on, value_at
from policies.rule import ResourceRule

SHORTEST_KEY = 20
KEY_COMMAND = "`openssl rand -hex 32 | pulumi config set --secret vllm_api_key`, then `pulumi up`"
# Variables that rules read, besides those of role vllm: the unit holds all of those.
READ_BY_RULES = ("docker_daemon_options",)
# What Ansible evaluates: expressions, statements, comments.
EVALUATED = ("{{", "{%", "{#")
# Switches that add routes, or load objects, for anyone who reaches the port.
DEVELOPER = ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION")


def key_set_and_secret(context: Context) -> Iterator[Finding]:
    """Yield a key that is missing, short, or readable by others. Never shows it."""
    if context.kind in pods.PODS:
        for name, container in pods.containers(context):
            names = [value_at(entry, "name") for entry in value_at(container, "env", absent=[]) or []]
            if "VLLM_API_KEY" in names:
                seen = f"{name} in {context.kind} {context.name} has VLLM_API_KEY in its environment"
                yield Finding(
                    seen, reason="anyone who may read the pod reads it", next="a Secret that is mounted as a file"
                )
        return
    key = value_at(context.inputs, "api_key", absent="")
    if key == "":
        yield Finding("no api_key", reason="anyone who reaches the port can use the GPUs and read the media folder")
    elif key is not None and len(str(key)) < SHORTEST_KEY:
        yield Finding(f"the api_key has fewer than {SHORTEST_KEY} characters", reason="it can be guessed")
    new_key = f"make a new one, since others can have read it: {KEY_COMMAND}"
    if "vllm_api_key" in context.stack.clear:
        yield Finding("vllm_api_key is in clear in the stack file", reason="Git keeps the file", next=new_key)
    if context.flags("api-key"):
        yield Finding(
            "vllm_flags.api-key is set",
            reason="a flag is in clear in the stack file, in the state and on the machine",
            next=new_key,
        )
    if value_at(context.var("vllm_environment") or {}, "VLLM_API_KEY") is not None:
        yield Finding(
            "vllm_environment.VLLM_API_KEY is set",
            reason="it is in clear in the stack file and in the state",
            next=new_key,
        )


def on_loopback_only(context: Context) -> Iterator[Finding]:
    """Yield the flags that set where the server listens; only the unit may."""
    for flag in ("host", "uds"):
        if context.flags(flag):
            yield Finding(f"vllm_flags.{flag} is set")


def no_developer_doors(context: Context) -> Iterator[Finding]:
    """Yield the developer switches that are on."""
    for name in DEVELOPER:
        if on(value_at(context.var("vllm_environment") or {}, name)):
            yield Finding(f"vllm_environment.{name} is on")


def values_plain(context: Context) -> Iterator[Finding]:
    """Yield the variables with an Ansible expression: no rule can check its value."""
    variables = context.inputs.get("vars")
    for name in variables if isinstance(variables, Mapping) else ():
        text = repr(context.var(name))
        if (name in READ_BY_RULES or name.startswith("vllm_")) and any(sign in text for sign in EVALUATED):
            yield Finding(f"{name} contains an expression")


RULES = (
    ResourceRule(
        name="api-key-set-and-secret",
        holds="An API key is set, cannot be guessed, and is a secret of the stack.",
        reason="anyone who reaches the port can use the GPUs",
        remedy=KEY_COMMAND,
        source="project notes on serving, Security: the key goes in a file, not in arguments",
        kinds=("Serving", "Rollout", *pods.PODS),
        check=key_set_and_secret,
    ),
    ResourceRule(
        name="on-loopback-only",
        holds="A replica listens on a socket of the machine, or on its loopback. Only the unit sets where it listens.",
        reason="the key guards only /v1, /v2 and /inference: /tokenize, /invocations, /pause or /metrics are open to anyone who reaches the server",
        remedy="leave it out; `fleet forward` or a gateway with a list of allowed paths reaches the replica",
        source="project notes on serving, Security; vLLM documentation, Security: endpoints without authentication",
        kinds=("Serving", "Rollout"),
        check=on_loopback_only,
    ),
    ResourceRule(
        name="no-developer-doors",
        holds="vLLM's developer switches are off.",
        reason="they add routes that change the running vLLM server, or load objects that a client sends",
        remedy="leave it out",
        source="project notes on serving, Security: never VLLM_SERVER_DEV_MODE=1; vLLM documentation, Security",
        kinds=("Serving", "Rollout"),
        check=no_developer_doors,
    ),
    ResourceRule(
        name="values-plain",
        holds="Every variable that a rule reads is a plain value.",
        reason="an Ansible expression has no value until the run, so no rule can check it at preview",
        remedy="write the value itself; a value for one machine goes under that machine's vars",
        source="this project: fleet/stack/role_vars.py accepts expressions, since Ansible knows their type only during the run",
        kinds=("Host", "Serving", "Rollout"),
        check=values_plain,
    ),
)
