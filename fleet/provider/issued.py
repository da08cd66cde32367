"""The certificates that a resource's machine has by the stack's authority: which are due, why a new one is issued, and issuing them.

Called by gateway.py and weights.py.
"""

import datetime
from collections.abc import Collection, Mapping

from fleet import certificates
from fleet.provider.base import Request
from fleet.provider.properties import Props


def due(ends: Mapping[str, str] | None, ours: Collection[str]) -> dict[str, str]:
    """Return {certificate: reason} for each of `ours` that ends soon. Reads only days, since each preview asks for each machine."""
    at = certificates.now()
    days = {name: day for name, day in (ends or {}).items() if name in ours}
    reasons = {name: certificates.reason_to_renew(datetime.date.fromisoformat(day), at) for name, day in days.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def reasons_to_issue(wanted: Mapping[str, certificates.Wanted], authority: str, old: Props) -> dict[str, str]:
    """Return {certificate: reason} for each that an update issues."""
    at, held = certificates.now(), old.get("certificates") or {}
    reasons = {
        name: certificates.reason_to_issue(held.get(name) or "", one, authority, at) for name, one in wanted.items()
    }
    return {name: reason for name, reason in reasons.items() if reason}


def issue(
    request: Request, wanted: Mapping[str, certificates.Wanted], inputs: Props, old: Props | None
) -> dict[str, str]:
    """Return the certificates by name, new ones where they must be issued, the others as they are."""
    at, held, made = certificates.now(), (old or {}).get("certificates") or {}, {}
    reasons = reasons_to_issue(wanted, inputs["authority"], old or {}) if wanted else {}
    for name, one in wanted.items():
        if name in reasons:
            made[name] = certificates.issue(one, inputs["authority"], inputs["authority_key"], at)
            request.report(f"its certificate {name} is new, and ends {certificates.ends(made[name])}", False)
        else:
            made[name] = held[name]
    return made
