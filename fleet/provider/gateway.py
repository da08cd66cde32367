"""The resource Gateway: runs the role gateway, the proxies of one machine, with certificates that it has signed before.

Called by the servicer. Needs fleet.certificates and the stack's authority, whose key is an input.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from fleet import certificates, drift, errors, ssh
from fleet.impact.effects import PROXIES, Reason
from fleet.impact.role_effects import Level
from fleet.managed import rotation, served_certificate
from fleet.provider import acme_certificate, issued
from fleet.provider.base import Request
from fleet.provider.playbook import Playbook
from fleet.provider.properties import UNKNOWN, Props, has_unknown

# Each certificate: the proxy that has it, and the variable of the role's environment.
UNITS = {
    "node": PROXIES["node"],
    "client": PROXIES["clients"],
    "server": PROXIES["clients"],
    "peer": PROXIES["clients"],
}
VARIABLES = {name: f"GATEWAY_{name.upper()}_PEM" for name in UNITS}
# Inputs for ACME, and the variable of the role's environment for each.
ACME = {"acme_key": "GATEWAY_ACME_KEY", "acme_authority": "GATEWAY_ACME_AUTHORITY"}
RELOAD = Level("reload")
Answer = TypeVar("Answer")


def look(target: ssh.Target) -> rotation.Look:
    """Return how a node serves. Raises FleetError."""
    with ssh.connect(target) as connection:
        return rotation.look(connection)


def look_at_certificate(target: ssh.Target) -> Mapping[str, Any]:
    """Return the certificate that a gateway shows its clients. Raises FleetError."""
    with ssh.connect(target) as connection:
        return served_certificate.look(connection)


class Gateway(Playbook):
    """The proxies of a machine: that of a node before its replicas, that for clients, or both (`gateway_faces`).

    `certificates` has by name a certificate with its key below it: `node` of a node's proxy; `client` and `server` of a gateway, and
    `peer`, which it shows other gateways. They hold for 90 days; an update renews one that has 30 left. `ends` has the last day of each.
    With the input `chain`, the user's own certificate, `server` is made of that. By ACME the machine itself gets another one, which `acme`
    describes; until then it shows clients `server`.
    """

    def __init__(
        self,
        *arguments: Any,
        look: Callable[[ssh.Target], rotation.Look] = look,
        look_at_certificate: Callable[[ssh.Target], Mapping[str, Any]] = look_at_certificate,
        **more: Any,
    ) -> None:
        super().__init__(*arguments, **more)
        self._look, self._look_at_certificate = look, look_at_certificate

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Run the role. It leaves drains as they are, and says so, as it does where an ACME server gave no certificate."""
        outputs = super().apply(request, inputs, old)
        if text := acme_certificate.warning(request.name, inputs, outputs.get("acme") or {}):
            request.warn(text)
        for difference in drift.recorded(old or {}):
            if difference.attribute == drift.ROTATION:
                request.report(f"stays as it is: {difference}", False)
        return outputs

    def read(self, request: Request, properties: Props) -> Props:
        """Compare with the machine, and report as drift what is drained there, and a certificate that ACME did not give."""
        current = self._with_certificate(request, super().read(request, properties))
        if "node" not in _faces(properties, {}):
            return current
        seen = _ask(self._look, request, properties, f"whether {request.name} is drained")
        if seen is None:
            return current
        drains = [_drained(request.name, replica, words, seen) for replica, words in seen.drains.items()]
        return {**current, "drift": [*current["drift"], *(difference.to_json() for difference in drains)]}

    def _with_certificate(self, request: Request, current: Props) -> Props:
        """Return the properties with the certificate that clients get now."""
        if not acme_certificate.wanted(current):
            return current
        served = _ask(self._look_at_certificate, request, current, f"which certificate {request.name} has by ACME")
        if served is None:
            return current
        difference = acme_certificate.difference(request.name, served)
        more = [difference.to_json()] if difference else []
        return {**current, "acme": served, "drift": [*current["drift"], *more]}

    def due(self, properties: Props) -> Mapping[str, str]:
        """Return the reason to renew certificates that end soon."""
        reasons = _due(properties)
        return {"certificates": "; ".join(dict.fromkeys(reasons.values()))} if reasons else {}

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return them with the certificates and their ends, UNKNOWN where a certificate is issued."""
        planned = super().planned_outputs(inputs, old_inputs, old)
        stay = old is not None and not _undetermined(inputs) and not _reasons_to_issue(inputs, old)
        return planned | {key: old[key] if old and stay else UNKNOWN for key in ("certificates", "ends")}

    def reasons(self, old_inputs: Props, inputs: Props, old: Props) -> Sequence[Reason]:
        """Return the reloads for new certificates and keys."""
        units = [PROXIES[face] for face in _faces(inputs, old)]
        reasons: list[Reason] = []
        if _changed("authority", old_inputs, inputs, old):
            reasons.append(Reason(RELOAD, tuple(units), "the certificate of the stack's authority is renewed"))
        if _changed("inner_key", old_inputs, inputs, old):
            reasons.append(Reason(RELOAD, (PROXIES["node"],), "the API key changed"))
        if _changed("chain", old_inputs, inputs, old) or _changed("gateway_key", old_inputs, inputs, old):
            reasons.append(Reason(RELOAD, (PROXIES["clients"],), "its own certificate changed"))
        issued = _due(old) if _undetermined(inputs) else _reasons_to_issue(inputs, old)
        for because in dict.fromkeys(issued.values()):
            hit = {UNITS[name] for name, reason in issued.items() if reason == because}
            reasons.append(Reason(RELOAD, tuple(unit for unit in units if unit in hit), because))
        return reasons

    def made_outputs(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Return the certificates, new ones where they must be issued, and their ends."""
        made = issued.issue(request, _wanted(inputs), inputs, old)
        if inputs.get("chain") and "clients" in _faces(inputs, {}):
            made["server"] = f"{inputs['chain'].rstrip()}\n{inputs['gateway_key'].strip()}\n"
        return {"certificates": made, "ends": {name: certificates.ends(pem).isoformat() for name, pem in made.items()}}

    def environment(self, properties: Props) -> dict[str, str]:
        """Return the inner API key, the authority's certificate, the certificates, and what ACME needs."""
        pems = {VARIABLES[name]: pem for name, pem in properties["certificates"].items()}
        acme = {variable: properties[name] for name, variable in ACME.items() if properties.get(name)}
        return {"VLLM_API_KEY": properties["inner_key"], "GATEWAY_AUTHORITY": properties["authority"], **pems, **acme}


def _ask(look: Callable[[ssh.Target], Answer], request: Request, properties: Props, what: str) -> Answer | None:
    """Return what a look at the machine gives; None, with a warning that `what` is unknown, if its command fails there."""
    try:
        return look(ssh.Target.from_inputs(properties["node"]))
    except errors.CommandFailed as error:
        request.warn(f"{what} is unknown: {error.seen}")
        return None


def _drained(node: str, replica: str, words: str, seen: rotation.Look) -> drift.Difference:
    """Return the difference for a drain."""
    by_turn = (seen.marks.get(replica) if replica else seen.mark) == rotation.TURN
    ends = "the end of the turn, by `pulumi up`" if by_turn else "`fleet undrain`, and no `pulumi up`, puts it back"
    kind, name = ("replica", f"{node}/{replica}") if replica else ("node", node)
    return drift.Difference(kind, name, drift.ROTATION, f"in rotation: {ends}", words)


def _due(properties: Props) -> dict[str, str]:
    """Return {certificate: reason} for each of ours that ends soon."""
    return issued.due(properties.get("ends"), _ours(properties))


def _reasons_to_issue(inputs: Props, old: Props) -> dict[str, str]:
    """Return {certificate: reason} for each that an update issues."""
    return issued.reasons_to_issue(_wanted(inputs), inputs["authority"], old)


def _wanted(inputs: Props) -> dict[str, certificates.Wanted]:
    """Return the certificates that the authority signs for a machine."""
    own, address = inputs.get("own_names") or [inputs["node"]["name"]], inputs["vars"]["gateway_address"]
    names = inputs.get("names") or own
    machine = certificates.Wanted("server", own[0], tuple(dict.fromkeys([*own, address])))
    wanted = {
        "node": machine,
        "client": certificates.Wanted("client", own[0]),
        "server": certificates.Wanted("server", names[0], tuple(names)),
        "peer": machine,
    }
    return {name: wanted[name] for name in _ours(inputs)}


def _ours(properties: Props) -> Collection[str]:
    """Return the names of the certificates that the authority signs for a machine."""
    faces = _faces(properties, {})
    variables: Any = properties.get("vars")
    others = isinstance(variables, Mapping) and len(variables.get("gateway_peers") or ()) > 1
    clients = ["client", *([] if properties.get("chain") else ["server"]), *(["peer"] if others else [])]
    return [*(["node"] if "node" in faces else []), *(clients if "clients" in faces else [])]


def _faces(inputs: Props, old: Props) -> Sequence[str]:
    """Return the proxies of a machine, by the old state where a preview does not know the variables."""
    variables = inputs.get("vars")
    if not isinstance(variables, Mapping):
        variables = old.get("vars") or {}
    faces: Sequence[str] = variables.get("gateway_faces") or ()
    return faces


def _undetermined(inputs: Props) -> bool:
    """Return whether a preview does not know what the certificates are made of."""
    variables: Any = inputs.get("vars")
    if not isinstance(variables, Mapping):
        return True
    parts = (inputs.get("node"), inputs.get("authority"), inputs.get("names"), variables.get("gateway_address"))
    return any(map(has_unknown, parts))


def _changed(name: str, old_inputs: Props, inputs: Props, old: Props) -> bool:
    return any(side.get(name) != inputs.get(name) for side in (old_inputs, old))
