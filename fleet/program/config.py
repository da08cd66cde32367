"""Reads the configuration of the stack that Pulumi runs, and validates all of it before any resource is declared.

Needs Pulumi's configuration in this process, the roles and the names of the probes; opens no connection. The form of a stack file is in
stack.settings, types of role variables in stack.role_vars, rules in stack.rules, which stack.validate applies. Called by `fleet.program`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pulumi
from pulumi.runtime import config as runtime_config

from fleet import errors, findings
from fleet.program import own_certificate
from fleet.stack import inventory, probe_cases, role_vars, settings, validate


def read(roles: role_vars.Roles, root: Path) -> settings.Settings:
    """Return the settings of the running stack; `root` is the repository. Logs warnings. Raises SettingsError with all mistakes."""
    file = f"stacks/Pulumi.{pulumi.get_stack()}.yaml"
    keys = _keys()
    if mistakes := list(_secret_mistakes(keys, f"{pulumi.get_project()}:", file)):
        raise errors.first(mistakes)
    # A JSON object or list; a scalar stays text, which the form reads.
    plain = {
        key: json.loads(text) if text[:1] in ("{", "[") else text
        for key, text in keys.items()
        if key not in settings.SECRETS
    }
    raw, inventories = inventory.expand(plain, Path("stacks"), file)  # Pulumi runs the program in its folder
    stack = settings.read(raw, file, inventories)
    result = validate.validate(stack, roles, file, findings.today())
    for warning in result.warnings:
        pulumi.log.warn(str(warning))
    mistakes = [
        *result.mistakes,
        *_missing_secrets(stack, keys, file),
        *own_certificate.mistakes(stack.gateway, keys.get("gateway_key", ""), file, findings.today()),
        *_case_mistakes(stack, root / "fleet" / "probes" / "cases", file),
    ]
    if mistakes:
        raise errors.first(mistakes)
    return stack


def _keys() -> Mapping[str, str]:
    """Return our keys of the stack file with their values as text."""
    # pulumi.Config only looks up a given name; a misspelled key is only visible here.
    values, prefix = runtime_config.CONFIG.get(), f"{pulumi.get_project()}:"
    return {key.removeprefix(prefix): text for key, text in values.items() if key.startswith(prefix)}


def _secret_mistakes(keys: Mapping[str, str], prefix: str, file: str) -> Iterator[errors.SettingsError]:
    """Yield each secret in clear, a missing API key, and each plain key that holds a secret."""
    for name in settings.SECRETS:
        command = f"`pulumi config set --secret {name} -s {pulumi.get_stack()}`"
        if name in keys and not pulumi.runtime.is_config_secret(prefix + name):
            yield errors.SettingsError(
                file=file,
                key=name,
                seen="is in clear in the stack file",
                allowed="a secret, with a new value: this one is exposed",
                next=command,
            )
    if not keys.get("vllm_api_key") and "cluster" not in keys:  # no model is in the stack that makes a cluster
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


def _missing_secrets(stack: settings.Settings, keys: Mapping[str, str], file: str) -> Iterator[errors.SettingsError]:
    """Yield an error for each secret that a source or the gateway needs and the stack lacks."""
    needed = {name: what for pool in stack.nodes for name, what in pool.SECRETS.items()}
    if stack.gateway and stack.gateway.chain:
        needed["gateway_key"] = f"the key of the certificate in {stack.gateway.chain}"
    for name, what in needed.items():
        if not keys.get(name):
            yield errors.SettingsError(
                file=file,
                key=name,
                seen="this key is missing",
                allowed=f"a secret: {what}",
                next=f"`pulumi config set --secret {name} -s {pulumi.get_stack()}`",
            )


def _case_mistakes(stack: settings.Settings, folder: Path, file: str) -> Iterator[errors.SettingsError]:
    """Yield an error for each probe that does not exist, and for each mistake in the stack's own cases."""
    cases = sorted(path.stem for path in folder.glob("*.*"))
    if stack.probes.extra:
        own, mistakes = probe_cases.read_folder(Path(stack.probes.extra), stack.probes.extra, cases)
        yield from mistakes
        cases += own
    for name in stack.probes.cases:
        if name not in cases:
            yield errors.SettingsError(
                file=file,
                key="probes.cases",
                value=name,
                seen="no such probe",
                allowed=", ".join(cases),
                nearest=errors.nearest(name, cases),
            )
