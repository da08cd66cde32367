"""What the cloud sources share: host keys, user data, tags with digests of creation settings, errors for a cloud's refusals.

Each machine has a HostKey of our own provider. Its private half is in the user data, its public half in Node, so the first connection is
already verified. Node then replaces that key, because anybody who reads the user data later knows the first one. Used by machines.py of each
cloud; knows no cloud.
"""

import asyncio
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from fleet import errors
from fleet.resources import HostKey
from fleet.sources.cloud_form import Cloud

DOING = "make the machine"


@dataclass(frozen=True)
class Refusal:
    """One reason of a cloud to refuse: a pattern of its message, and the parts of our error."""

    pattern: str
    seen: str
    wanted: str
    next: str


def user_data(pool: Cloud, key: HostKey) -> pulumi.Output[str]:
    """Return cloud-init's user data: the host key and one user who may log in. The host key is the only secret in it."""
    return pulumi.Output.secret(
        pulumi.Output.all(key.public, key.private).apply(lambda pair: cloud_config(pool, *pair))
    )


def cloud_config(pool: Cloud, public: str, private: str) -> str:
    """Return the user data as text: JSON, which is also YAML."""
    user = {
        "name": pool.user,
        "ssh_authorized_keys": list(pool.keys),
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "lock_passwd": True,
    }
    config = {
        "users": [user],  # replaces the image's default user
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,  # the image may have keys
        "ssh_keys": {"ed25519_private": private, "ed25519_public": public},
    }
    return f"#cloud-config\n{json.dumps(config, indent=1)}\n"


def node_inputs(pool: Cloud, name: str, address: pulumi.Input[str], key: HostKey) -> dict[str, Any]:
    """Return the inputs of Node."""
    return {
        "address": address,
        "port": 22,
        "user": pool.user,
        "identity": pool.identity,
        "host_key": key.public,
        "final_key": key.final,
        "become": True,
        "gpus": pool.gpus(name),
        **({} if pool.wait is None else {"wait": pool.wait}),
    }


def creation_tags(pool: Cloud, image: str) -> dict[str, str]:
    """Return tags of a machine: digests of the settings that a cloud reads only at creation, for a later comparison."""
    parts = {"image": image, "login": "\n".join(pool.login)}
    return {part: hashlib.sha256(text.encode()).hexdigest()[:16] for part, text in parts.items()}


def warn_of_changes(
    kind: str, name: str, wanted: Mapping[str, str], tags: pulumi.Output[Mapping[str, str]], stack: str
) -> None:
    """Warn where creation settings of the stack differ from those in the machine's `tags`: Pulumi ignores such a change.

    `kind` is the last part of the machine's type, `wanted` the tags that a new machine would get.
    """

    def warn(current: Mapping[str, str]) -> None:
        if parts := [part for part, digest in wanted.items() if current.get(part, digest) != digest]:
            pulumi.log.warn(str(_change(kind, name, parts, stack)))

    tags.apply(warn)


def _change(kind: str, name: str, parts: Sequence[str], stack: str) -> errors.FleetError:
    words = {"image": "another image", "login": "another user or other keys"}
    release = f"pulumi config set --path 'glm-fleet:release[\"{name}\"]' WHY -s {stack}"
    return errors.FleetError(
        node=name,
        doing="compare with what it was made of",
        seen=f"{' and '.join(words[part] for part in parts)}: nothing is done, because this does not reach an existing machine",
        wanted="the settings that it was made with, or a new machine",
        next=f"to replace it: `{release}`, `pulumi up`, and then `pulumi up --replace '**:{kind}::{name}' -s {stack}`",
    )


def hooks(
    name: str, refusals: Sequence[Refusal], check: Callable[[], Awaitable[None]] | None = None
) -> pulumi.ResourceHookBinding:
    """Return hooks of a machine's creation: before it, also at preview, `check` raises what would prevent it.

    After a refusal of the cloud that we know, our error follows the cloud's own message.
    """

    async def before(_: pulumi.ResourceHookArgs) -> None:
        if check:
            await run_check(name, refusals, check)

    def refused(args: pulumi.ErrorHookArgs) -> bool:
        if error := refusal_error(name, "\n".join(args.errors), refusals):
            pulumi.log.error(str(error))
        return False  # do not retry: a second machine may cost money

    return pulumi.ResourceHookBinding(
        before_create=[
            pulumi.ResourceHook(f"{name}-possible", before, pulumi.ResourceHookOptions(on_dry_run=True)),
        ],
        on_error=[pulumi.ErrorHook(f"{name}-refused", refused)],
    )


async def run_check(name: str, refusals: Sequence[Refusal], check: Callable[[], Awaitable[None]]) -> None:
    """Ask the cloud whether the machine can be created. Raises FleetError where it cannot, or for a refusal that we know."""
    # The SDK raises nothing narrower than Exception when a call fails.
    failure: Any = (await asyncio.gather(check(), return_exceptions=True))[0]
    if isinstance(failure, errors.FleetError):
        raise failure
    if isinstance(failure, BaseException):
        if error := refusal_error(name, str(failure), refusals):
            raise error
        # Only warn: whether the machine can be created shows at its creation.
        unknown = errors.FleetError(node=name, doing="ask the cloud whether it can be made", seen=str(failure))
        pulumi.log.warn(str(unknown))


async def call(
    package: str, function: str, arguments: Mapping[str, str], provider: pulumi.ProviderResource | None = None
) -> Mapping[str, Any]:
    """Return the answer of a function of a cloud's plugin, by the names of its schema; {} while a preview cannot know it.

    The SDK's own wrapper ends the program when the cloud refuses, even if the caller catches the exception.
    """
    options = pulumi.InvokeOptions(provider=provider, version=importlib.metadata.version(package))
    return await pulumi.runtime.invoke_async(function, dict(arguments), options) or {}


def refusal_error(name: str, text: str, refusals: Sequence[Refusal]) -> errors.FleetError | None:
    """Return our error for a cloud's message, None for one that matches no known refusal."""
    for refusal in refusals:
        if re.search(refusal.pattern, text, re.IGNORECASE):
            return errors.FleetError(
                node=name, doing=DOING, seen=refusal.seen, wanted=refusal.wanted, next=refusal.next
            )
    return None
