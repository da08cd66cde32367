"""Who may ask the server, where it listens, and that its settings can be judged at all."""

from collections.abc import Iterator, Mapping

from policies.asked import Asked, known, on
from policies.rule import Breach, Rule

SHORTEST_KEY = 20
KEY_COMMAND = "`openssl rand -hex 32 | pulumi config set --secret vllm_api_key`, then `pulumi up`"
# Variables of the other roles by which rules judge; of role vllm it is each, since all of them stand in the unit.
JUDGED = ("docker_daemon_options",)
# What Ansible evaluates: expressions, statements, comments.
EVALUATED = ("{{", "{%", "{#")
# What opens routes or loads for anybody who reaches the port.
DEVELOPER = ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION")


def key_set_and_secret(asked: Asked) -> Iterator[Breach]:
    """Yield where the key is missing, short, or known to others. Never shows it."""
    key = known(asked.inputs, "api_key", absent="")
    if key == "":
        yield Breach("no api_key", "whoever reaches the port uses the GPUs and reads the media folder")
    elif key is not None and len(str(key)) < SHORTEST_KEY:
        yield Breach(f"the api_key has fewer than {SHORTEST_KEY} characters", "it can be guessed")
    again = f"a new one, as it has been read: {KEY_COMMAND}"
    if "vllm_api_key" in asked.stack.clear:
        yield Breach("vllm_api_key stands in clear in the stack file", "the file is committed", again)
    if asked.flags("api-key"):
        yield Breach(
            "vllm_flags.api-key is set",
            "a flag stands in clear in the stack file, in the state and on the machine",
            again,
        )
    if known(asked.var("vllm_environment") or {}, "VLLM_API_KEY") is not None:
        yield Breach(
            "vllm_environment.VLLM_API_KEY is set", "it stands in clear in the stack file and in the state", again
        )


def on_loopback_only(asked: Asked) -> Iterator[Breach]:
    """Yield what says where the server listens, which the unit alone does."""
    for flag in ("host", "uds"):
        if asked.flags(flag):
            yield Breach(f"vllm_flags.{flag} is set")


def no_developer_doors(asked: Asked) -> Iterator[Breach]:
    """Yield the switches for developers that are on."""
    for name in DEVELOPER:
        if on(known(asked.var("vllm_environment") or {}, name)):
            yield Breach(f"vllm_environment.{name} is on")


def values_plain(asked: Asked) -> Iterator[Breach]:
    """Yield the variables that only Ansible could tell: rules would judge an expression instead of its value."""
    variables = asked.inputs.get("vars")
    for name in variables if isinstance(variables, Mapping) else ():
        text = repr(asked.var(name))
        if (name in JUDGED or name.startswith("vllm_")) and any(sign in text for sign in EVALUATED):
            yield Breach(f"{name} has an expression in it")


RULES = (
    Rule(
        name="api-key-set-and-secret",
        holds="An API key is set, cannot be guessed, and is a secret of the stack.",
        reason="whoever reaches the port uses the GPUs",
        remedy=KEY_COMMAND,
        source="project notes on serving, Security: the key goes in a file, not in arguments",
        kinds=("Serving",),
        judge=key_set_and_secret,
    ),
    Rule(
        name="on-loopback-only",
        holds="A replica listens on a socket of the machine, or on its loopback, and nothing else says where it listens.",
        reason="the key guards only /v1, /v2 and /inference: /tokenize, /invocations, /pause or /metrics are open to whoever reaches the server",
        remedy="leave it out; `fleet forward` or a gateway with a list of allowed paths reaches the replica",
        source="project notes on serving, Security; vLLM documentation, Security: endpoints without authentication",
        kinds=("Serving",),
        judge=on_loopback_only,
    ),
    Rule(
        name="no-developer-doors",
        holds="vLLM's switches for developers are off.",
        reason="they add routes that change the running engine, or load objects that a caller made",
        remedy="leave it out",
        source="project notes on serving, Security: never VLLM_SERVER_DEV_MODE=1; vLLM documentation, Security",
        kinds=("Serving",),
        judge=no_developer_doors,
    ),
    Rule(
        name="values-plain",
        holds="What rules judge by is written as plain values.",
        reason="an Ansible expression has no value until it runs on the machine, so no rule could refuse it before",
        remedy="write the value itself; what differs on one machine stands under its own vars",
        source="this project: fleet/stack/role_vars.py lets expressions pass, since Ansible knows their type only when it runs",
        kinds=("Host", "Serving"),
        judge=values_plain,
    ),
)
