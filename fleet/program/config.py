"""Reads the configuration of the stack that Pulumi runs, and judges all of it before any resource is declared.

Needs Pulumi's configuration in this process, the roles' own words and the names of the probes; opens no connection.
Called by `fleet.program`. Forms are in `settings`, types of role variables in `rolevars`, lessons in `rules`, which `judge` asks.
"""

import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import config as runtime_config

from fleet import errors
from fleet.stack import inventory, probe_cases, role_vars, settings, validate


def read(roles: role_vars.Roles, root: Path) -> settings.Settings:
    """Return the settings of the running stack; `root` is the repository. SettingsError tells every mistake found.

    What is only a warning is shown beside the stack.
    """
    file = f"stacks/Pulumi.{pulumi.get_stack()}.yaml"
    keys = _keys()
    raw, inventories = inventory.expand(_raw(keys, file), Path("stacks"), file)  # Pulumi runs the program in its folder
    judged = settings.read(raw, file, inventories)
    told = validate.judge(judged, roles, file, datetime.datetime.now(tz=datetime.UTC).date())
    for warning in told.warnings:
        pulumi.log.warn(str(warning))
    mistakes = [
        *told.mistakes,
        *_needed(judged, keys, file),
        *_cases(judged, root / "fleet" / "probes" / "cases", file),
    ]
    if mistakes:
        raise settings.first(mistakes)
    return judged


def _keys() -> Mapping[str, str]:
    """Return all that the stack has of ours."""
    # Config can only be asked for names that one knows; a misspelled key shows only here.
    told, prefix = runtime_config.CONFIG.get(), f"{pulumi.get_project()}:"
    return {key.removeprefix(prefix): text for key, text in told.items() if key.startswith(prefix)}


def _raw(keys: Mapping[str, str], file: str) -> dict[str, Any]:
    """Return the stack's own keys, less the secrets, after judging that what must be secret is, and nothing else."""
    mistakes = list(_secrets(keys, f"{pulumi.get_project()}:", file))
    if mistakes:
        raise settings.first(mistakes)
    return {key: _value(text) for key, text in keys.items() if key not in settings.SECRETS}


def _secrets(keys: Mapping[str, str], prefix: str, file: str) -> Iterator[errors.SettingsError]:
    for name in settings.SECRETS:
        command = f"`pulumi config set --secret {name} -s {pulumi.get_stack()}`"
        if name in keys and not pulumi.runtime.is_config_secret(prefix + name):
            yield errors.SettingsError(
                file=file,
                key=name,
                seen="stands in clear in the stack file",
                allowed="a secret, and a new one: this one has been read",
                next=command,
            )
    if not keys.get("vllm_api_key"):
        yield errors.SettingsError(
            file=file,
            key="vllm_api_key",
            seen="this key is missing",
            allowed="a secret that clients of the API must show",
            next=f"`openssl rand -hex 32 | pulumi config set --secret vllm_api_key -s {pulumi.get_stack()}`",
        )
    for name in sorted(keys.keys() - set(settings.SECRETS)):
        if pulumi.runtime.is_config_secret(prefix + name):
            yield errors.SettingsError(
                file=file,
                key=name,
                seen="holds a secret among plain values",
                allowed=f"secrets only as {' and '.join(settings.SECRETS)}",
            )


def _needed(judged: settings.Settings, keys: Mapping[str, str], file: str) -> Iterator[errors.SettingsError]:
    """Yield the secrets that a source needs and the stack has not."""
    for name, what in {name: what for pool in judged.nodes for name, what in pool.SECRETS.items()}.items():
        if not keys.get(name):
            yield errors.SettingsError(
                file=file,
                key=name,
                seen="this key is missing",
                allowed=f"a secret: {what}",
                next=f"`pulumi config set --secret {name} -s {pulumi.get_stack()}`",
            )


def _value(text: str) -> Any:
    """Return an object as itself; a scalar stays text, which the form reads."""
    return json.loads(text) if text[:1] in ("{", "[") else text


def _cases(judged: settings.Settings, folder: Path, file: str) -> Iterator[errors.SettingsError]:
    """Yield the probes that the stack names and nobody has, and what is wrong with cases of its own."""
    known = sorted(path.stem for path in folder.glob("*.*"))
    if judged.probes.extra:
        found, mistakes = probe_cases.extra(Path(judged.probes.extra), judged.probes.extra, known)
        yield from mistakes
        known += found
    for name in judged.probes.cases:
        if name not in known:
            yield errors.SettingsError(
                file=file,
                key="probes.cases",
                value=name,
                seen="no such probe",
                allowed=", ".join(known),
                nearest=settings.nearest(name, known),
            )
