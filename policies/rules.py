"""What may never be deployed: each rule a pure function from a resource's inputs to a message, or to "".

A message has reason and remedy; Pulumi adds the rule's name and the resource. A rule sees secrets in clear: it never
puts a value of one into its message. At a first preview some inputs are not known yet (what another resource will
build): a rule then says nothing, and judges them during `up`, before the resource is touched.

Add a rule: a function here, a line in RULES, a test in tests/unit/test_policies.py.
"""

import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pulumi_policy import (
    EnforcementLevel,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

# An image that was built on its node and never pushed has an id, which is a digest, and no repository.
DIGEST = re.compile(r"^([^@\s]+@)?sha256:[0-9a-f]{64}$")
SHORTEST_KEY = 20
KEY_COMMAND = "`openssl rand -hex 32 | pulumi config set --secret vllm_api_key`, then `pulumi up`"
# The reference recipe's broad flags, as the variables of role vllm that ask for them.
PRIVILEGES = ("vllm_privileged",)
STACKS = Path(__file__).resolve().parents[1] / "stacks"

Props = Mapping[str, Any]
Rule = Callable[[Props], str]


def image_by_digest(props: Props) -> str:
    """The serving image, and the base that it is built from, are named by digest."""
    for name, image in (
        ("image", known(props, "image")),
        ("transformers_base_image", known(props, "vars", "transformers_base_image")),
        ("vllm_image", known(props, "vars", "vllm_image")),
    ):
        if image is not None and not DIGEST.match(str(image)):
            return (
                f"{name} is {image!r}: a tag can name other bytes tomorrow, on one node and not on the next.\n"
                "remedy: write REPOSITORY@sha256:<64 hex>, e.g. from `docker buildx imagetools inspect REPOSITORY:TAG`"
            )
    return ""


def container_not_privileged(props: Props) -> str:
    """The serving container runs with the devices it needs, and with no other right over its host."""
    for name in PRIVILEGES:
        if known(props, "vars", name) not in (None, False):
            return (
                f"{name} is on: whoever breaks into the model server is root on the machine and owns all its GPUs.\n"
                f"remedy: leave {name} out; role vllm passes /dev/kfd and the replica's render nodes, which is enough"
            )
    return ""


def api_key_set(props: Props) -> str:
    """The server asks for a key that cannot be guessed."""
    key = known(props, "api_key", absent="")
    if key == "":
        return f"no api_key: whoever reaches the port uses the GPUs and reads the media folder.\nremedy: {KEY_COMMAND}"
    if key is not None and len(str(key)) < SHORTEST_KEY:
        return f"the api_key has fewer than {SHORTEST_KEY} characters and can be guessed.\nremedy: {KEY_COMMAND}"
    return ""


@functools.cache  # the same file for each of a hundred machines
def api_key_secret(stack_file: str) -> str:
    """The key is encrypted in the stack file, which is committed. `stack_file` is the file's text.

    The SDK hands a secret input over in clear and does not say that it was one, so the rule looks where it is kept.
    """
    config = (yaml.safe_load(stack_file) or {}).get("config") or {}
    written = {name: value for name, value in config.items() if name.endswith(":vllm_api_key")}
    for name, value in written.items():
        if not (isinstance(value, Mapping) and "secure" in value):
            return (
                f"{name} stands in clear in the stack file, which is committed: treat this key as known to others.\n"
                f"remedy: a new one, {KEY_COMMAND}"
            )
    return ""


def known(props: Props, *path: str, absent: Any = None) -> Any:
    """Return the value at `path`: None when it is not known yet, `absent` when it is not there."""
    found: Any = props
    for key in path:
        try:
            if not isinstance(found, Mapping) or key not in found:
                return absent
            found = found[key]
        except UnknownValueError:
            return None
    return found


@functools.cache
def _stack_file() -> str:
    """Return the text of the stack's file, or "" where the engine does not say which stack it is."""
    file = STACKS / f"Pulumi.{os.environ.get('PULUMI_STACK', '')}.yaml"
    return file.read_text() if file.is_file() else ""


def _api_key(props: Props) -> str:
    """An API key is set, cannot be guessed, and is a secret of the stack."""
    return api_key_set(props) or api_key_secret(_stack_file())


# name of the rule → the resources it judges, the function
RULES: Mapping[str, tuple[tuple[str, ...], Rule]] = {
    "image-by-digest": (("fleet:index:Image", "fleet:index:Serving"), image_by_digest),
    "container-not-privileged": (("fleet:index:Serving",), container_not_privileged),
    "api-key-set-and-secret": (("fleet:index:Serving",), _api_key),
}


def policy(name: str, kinds: tuple[str, ...], rule: Rule) -> ResourceValidationPolicy:
    """Wrap a rule as a mandatory policy: a preview that breaks it stops."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if args.resource_type in kinds and (message := rule(args.props)):
            report(message, None)  # None: about this resource

    return ResourceValidationPolicy(name, (rule.__doc__ or name).splitlines()[0], validate, EnforcementLevel.MANDATORY)


POLICIES = [policy(name, kinds, rule) for name, (kinds, rule) in RULES.items()]
