"""Checks the PEM files that a stack brings for its gateway before any resource is declared: its own certificate, an ACME server's authority.

Reads these files; opens no connection. Called by `config`.
"""

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from fleet import certificates, errors
from fleet.stack import gateway_form

CHAIN, KEY, TRUST = "gateway.chain", "gateway_key", "gateway.acme.ca"
PEM = "PEM: the gateway's certificate first, then those between it and its authority"


def mistakes(
    form: gateway_form.Gateway | None, key: str, file: str, today: datetime.date
) -> Iterator[errors.SettingsError]:
    """Yield the mistakes in the certificate that a stack brings, and in its key ("" where the secret is missing)."""
    if form and form.acme and form.acme.ca:
        yield from _unreadable(form.acme.ca, TRUST, "PEM: the authority of the ACME server's own certificate", file)
    if form is None or form.chain is None:
        return
    if unreadable := list(_unreadable(form.chain, CHAIN, PEM, file)):
        yield from unreadable
        return
    pem = Path(form.chain).read_text()
    ends, hosts = certificates.ends(pem), certificates.hosts(pem)
    if ends < today:
        allowed = "a certificate that holds"
        yield errors.SettingsError(file=file, key=CHAIN, value=form.chain, seen=f"ended on {ends}", allowed=allowed)
    if missing := [name for name in form.certificate_names if not _covers(hosts, name)]:
        seen = f"its certificate is not for {', '.join(missing)}, only for {', '.join(hosts) or 'no host'}"
        allowed = "a certificate with each name of gateway.name and gateway.names"
        yield errors.SettingsError(file=file, key=CHAIN, value=form.chain, seen=seen, allowed=allowed)
    if key and not _belongs(pem, key):
        allowed = f"the key of the certificate in {form.chain}, as PEM without a passphrase"
        yield errors.SettingsError(file=file, key=KEY, seen="is another key, or none", allowed=allowed)


def _unreadable(path: str, key: str, wanted: str, file: str) -> Iterator[errors.SettingsError]:
    """Yield a file that is not there, or without a certificate."""
    try:
        certificates.ends(Path(path).read_text())  # relative to the project, where Pulumi runs the program
    except OSError as error:
        seen, wanted = str(error.strerror).lower(), gateway_form.FORMS[gateway_form.CHAIN]
        yield errors.SettingsError(file=file, key=key, value=path, seen=seen, allowed=wanted)
    except ValueError:
        yield errors.SettingsError(file=file, key=key, value=path, seen="has no certificate", allowed=wanted)


def _covers(hosts: Sequence[str], name: str) -> bool:
    """Return whether one of the names in a certificate covers a name; `*` stands for one label."""
    return name in hosts or f"*.{name.partition('.')[2]}" in hosts


def _belongs(pem: str, key: str) -> bool:
    try:
        return certificates.has_key(pem, key)
    except (ValueError, TypeError):  # TypeError: it has a passphrase
        return False
