"""What the provider says of a gateway's certificate by ACME: drift at a refresh, a warning after a run. Pure. Called by gateway.py."""

from collections.abc import Mapping
from typing import Any

from fleet import drift, errors
from fleet.provider.properties import Props

OWN = "a certificate of the stack's own authority"


def wanted(inputs: Props) -> Mapping[str, Any]:
    """Return the settings of ACME of a machine; {} for another certificate, and where a preview does not know them."""
    variables = inputs.get("vars")
    settings = variables.get("gateway_acme") if isinstance(variables, Mapping) else None
    return settings if isinstance(settings, Mapping) else {}


def difference(name: str, served: Mapping[str, Any]) -> drift.Difference | None:
    """Return the difference of a certificate that is not as wanted."""
    if served["right"]:
        return None
    return drift.Difference("certificate", name, drift.CERTIFICATE, "by ACME", _words(served))


def warning(name: str, inputs: Props, served: Mapping[str, Any]) -> str:
    """Return the message about a certificate that is not as wanted; "" for a right one."""
    settings = wanted(inputs)
    if not settings or not served or served["right"]:
        return ""
    names = ", ".join(map(str, settings["names"]))
    next_step = (
        f"let each address of {names} reach port 80 of a gateway; the machine asks again by itself, `pulumi up` at once"
    )
    error = errors.FleetError(
        node=name,
        doing="get a certificate by ACME",
        seen=f"clients get {_words(served)}",
        wanted=f"one of {settings['server']} for {names}",
        next=next_step,
    )
    return str(error)


def _words(served: Mapping[str, Any]) -> str:
    what = OWN if served["by"] == "authority" else f"one that ends {served['ends']}, or is not for all names"
    return f"{what}: {served['seen']}" if served["seen"] else what
