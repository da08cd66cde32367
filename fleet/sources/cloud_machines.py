"""What the sources that make machines in a cloud share: user data, what a machine was made of, and what is said when a cloud says no.

Needs a HostKey of our own provider for each machine: its private half goes into the user data, its public half into Node, so the
first connection is checked already; through that the machine gets its final key, for whoever reads the user data later has the first. Used by the source of each cloud beside this file; knows no cloud.
"""

import asyncio
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import pulumi

from fleet import errors
from fleet.resources import HostKey
from fleet.sources.cloud_form import Cloud

MADE = "make the machine"


@dataclass(frozen=True)
class Refusal:
    """How one reason of a cloud to say no looks (a pattern), and what is then said."""

    pattern: str
    seen: str
    wanted: str
    next: str


def host_keys(
    present: Sequence[str], fleet: pulumi.ProviderResource, protected: AbstractSet[str]
) -> Mapping[str, HostKey]:
    """Make the host key of each machine, protected as the machine is: without it nobody would know the machine again."""
    return {name: HostKey(name, fleet, protect=name in protected) for name in present}


def user_data(pool: Cloud, key: HostKey) -> pulumi.Output[str]:
    """Return what cloud-init does at the first boot: the host key and one user who may log in. A secret; and no other is in it."""
    return pulumi.Output.secret(
        pulumi.Output.all(key.public, key.private).apply(lambda pair: cloud_config(pool, *pair))
    )


def cloud_config(pool: Cloud, public: str, private: str) -> str:
    """Return the user data as text: JSON, which is YAML, too."""
    user = {
        "name": pool.user,
        "ssh_authorized_keys": list(pool.keys),
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "lock_passwd": True,
    }
    told = {
        "users": [user],  # in place of the image's own default user
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,  # whatever keys the image has
        "ssh_keys": {"ed25519_private": private, "ed25519_public": public},
    }
    return f"#cloud-config\n{json.dumps(told, indent=1)}\n"


def reach(pool: Cloud, name: str, address: pulumi.Input[str], key: HostKey) -> dict[str, Any]:
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


def made_of(pool: Cloud, image: str) -> dict[str, str]:
    """Return digests of what reaches a machine only when it is made: tags of the machine, which tell later what that was."""
    parts = {"image": image, "login": "\n".join(pool.login)}
    return {part: hashlib.sha256(text.encode()).hexdigest()[:16] for part, text in parts.items()}


def compare(
    kind: str, name: str, wanted: Mapping[str, str], made: pulumi.Output[Mapping[str, str]], stack: str
) -> None:
    """Warn where the stack's settings are not what the machine was made of: a change of them is ignored, never a replacement.

    `kind` is the last part of the machine's type, `made` are its tags.
    """

    def tell(was: Mapping[str, str]) -> None:
        if parts := [part for part, digest in wanted.items() if was.get(part, digest) != digest]:
            pulumi.log.warn(str(_changed(kind, name, parts, stack)))

    made.apply(tell)


def _changed(kind: str, name: str, parts: Sequence[str], stack: str) -> errors.FleetError:
    words = {"image": "another image", "login": "another user or other keys"}
    release = f"pulumi config set --path 'glm-fleet:release[\"{name}\"]' WHY -s {stack}"
    return errors.FleetError(
        node=name,
        doing="compare with what it was made of",
        seen=f"{' and '.join(words[part] for part in parts)}: nothing is done, for this reaches no machine that is there",
        wanted="the settings that it was made with, or a new machine",
        next=f"to make it anew: `{release}`, up, and then `pulumi up --replace '**:{kind}::{name}' -s {stack}`",
    )


def hooks(
    name: str, refusals: Sequence[Refusal], possible: Callable[[], Awaitable[None]] | None = None
) -> pulumi.ResourceHookBinding:
    """Return what happens around the making of a machine: before it (at preview, too) `possible` raises what would stop it.

    After a refusal of the cloud that we know, it is told in our form below the cloud's own words.
    """

    async def before(_: pulumi.ResourceHookArgs) -> None:
        if possible:
            await ask(name, refusals, possible)

    def refused(args: pulumi.ErrorHookArgs) -> bool:
        if error := explained(name, "\n".join(args.errors), refusals):
            pulumi.log.error(str(error))
        return False  # no second try: what it would cost is not ours to decide

    return pulumi.ResourceHookBinding(
        before_create=[
            pulumi.ResourceHook(f"{name}-possible", before, pulumi.ResourceHookOptions(on_dry_run=True)),
        ],
        on_error=[pulumi.ErrorHook(f"{name}-refused", refused)],
    )


async def ask(name: str, refusals: Sequence[Refusal], possible: Callable[[], Awaitable[None]]) -> None:
    """Ask the cloud whether the machine can be made; FleetError where not, or where it refuses to answer."""
    # The SDK raises nothing narrower than Exception when a question fails.
    told: Any = (await asyncio.gather(possible(), return_exceptions=True))[0]
    if isinstance(told, errors.FleetError):
        raise told
    if isinstance(told, BaseException):
        if known := explained(name, str(told), refusals):
            raise known
        # A question that is not answered stops nothing: whether the machine can be made shows when it is made.
        unknown = errors.FleetError(node=name, doing="ask the cloud whether it can be made", seen=str(told))
        pulumi.log.warn(str(unknown))


async def call(
    package: str, function: str, told: Mapping[str, str], provider: pulumi.ProviderResource | None = None
) -> Mapping[str, Any]:
    """Return what a function of a cloud's plugin answers, by the names of its schema; nothing while a preview cannot know it.

    The SDK's own form of it would end the program when the cloud refuses, in spite of who catches that.
    """
    options = pulumi.InvokeOptions(provider=provider, version=importlib.metadata.version(package))
    return await pulumi.runtime.invoke_async(function, dict(told), options) or {}


def explained(name: str, text: str, refusals: Sequence[Refusal]) -> errors.FleetError | None:
    """Return what a cloud's words mean, where we know it."""
    for known in refusals:
        if re.search(known.pattern, text, re.IGNORECASE):
            return errors.FleetError(node=name, doing=MADE, seen=known.seen, wanted=known.wanted, next=known.next)
    return None
