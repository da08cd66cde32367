"""Checks a stack's own certificate for the gateway (`certificate: files`) before any resource is declared.

Reads the file `chain`; opens no connection. Called by `config`.
"""

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from fleet import certificates, errors
from fleet.stack import gateway_form

CHAIN, KEY = "gateway.chain", "gateway_key"
PEM = "PEM: the gateway's certificate first, then those between it and its authority"


def mistakes(
    form: gateway_form.Gateway | None, key: str, file: str, today: datetime.date
) -> Iterator[errors.SettingsError]:
    """Yield the mistakes in the certificate that a stack brings, and in its key ("" where the secret is missing)."""
    if form is None or form.chain is None:
        return
    try:
        pem = Path(form.chain).read_text()  # relative to the project, where Pulumi runs the program
        ends, hosts = certificates.ends(pem), certificates.hosts(pem)
    except OSError as error:
        seen = str(error.strerror).lower()
        yield errors.SettingsError(
            file=file, key=CHAIN, value=form.chain, seen=seen, allowed=gateway_form.FORMS[gateway_form.CHAIN]
        )
        return
    except ValueError:
        yield errors.SettingsError(file=file, key=CHAIN, value=form.chain, seen="has no certificate", allowed=PEM)
        return
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


def _covers(hosts: Sequence[str], name: str) -> bool:
    """Return whether one of the names in a certificate covers a name; `*` stands for one label."""
    return name in hosts or f"*.{name.partition('.')[2]}" in hosts


def _belongs(pem: str, key: str) -> bool:
    try:
        return certificates.has_key(pem, key)
    except (ValueError, TypeError):  # TypeError: it has a passphrase
        return False
