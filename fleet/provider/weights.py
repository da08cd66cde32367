"""The resource Weights: runs the role weights, which fetches and verifies the model's files, and serves them to neighbours. Called by the servicer."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleet import certificates, drift
from fleet.impact.effects import Reason
from fleet.impact.role_effects import Level
from fleet.managed import revert
from fleet.provider import issued
from fleet.provider.base import Request
from fleet.provider.playbook import Playbook
from fleet.provider.properties import UNKNOWN, Props, has_unknown

# The name in the certificates: the source admits no other of the authority's.
NAME = "fleet-weights"
ISSUED = ("certificates", "ends")  # outputs
VARIABLES = {"server": "WEIGHTS_SERVER_PEM", "client": "WEIGHTS_CLIENT_PEM"}


class Weights(Playbook):
    """The model's files. Each fetch changes `manifest`, the sha256 of manifest.json, and so restarts the replicas that loaded them.

    A machine that shares them (`weights_address`) has two `certificates`: `server` of its source, and `client` for its fetches. `ends` has the
    last day of each. The input `neighbours` counts at the next run that has another reason: only a fetch needs it.
    """

    ignored_inputs = ("neighbours",)

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Run the role with the neighbours whose addresses are known. Raises InitFailed."""
        places = [place for place in inputs.get("neighbours") or () if place and place != UNKNOWN]
        return self.run(request, inputs, old, {"weights_neighbours": places} if places else {})

    def due(self, properties: Props) -> Mapping[str, str]:
        """Return the reason to renew certificates that end soon."""
        reasons = issued.due(properties.get("ends"), VARIABLES) if properties.get("authority") else {}
        return {"certificates": "; ".join(dict.fromkeys(reasons.values()))} if reasons else {}

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return them with `manifest` unknown if the repair of drift fetches files, and the certificates where they are issued.

        Without the certificates if the state is from before these outputs: the next run adds them, a preview shows no change.
        """
        planned = super().planned_outputs(inputs, old_inputs, old)
        if any(map(_fetches, drift.recorded(old or {}))):
            planned["manifest"] = UNKNOWN
        issues = _undetermined(inputs) or (_wanted(inputs) and (not old or _reasons(inputs, old)))
        if issues:
            return planned | dict.fromkeys(ISSUED, UNKNOWN)
        held = (old or {}) if _wanted(inputs) else {}
        planned = {key: value for key, value in planned.items() if key not in ISSUED}
        return planned | {key: held.get(key) or {} for key in ISSUED if old is None or key in old}

    def reasons(self, old_inputs: Props, inputs: Props, old: Props) -> Sequence[Reason]:
        """Return that nothing of the service restarts where the source gets a certificate."""
        because = dict.fromkeys(
            (issued.due(old.get("ends"), VARIABLES) if _undetermined(inputs) else _reasons(inputs, old)).values()
        )
        return [Reason(Level("none"), (), text) for text in because]

    def made_outputs(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Return the certificates, new ones where they must be issued, and their ends."""
        made = issued.issue(request, _wanted(inputs), inputs, old)
        return {"certificates": made, "ends": {name: certificates.ends(pem).isoformat() for name, pem in made.items()}}

    def environment(self, properties: Props) -> dict[str, str]:
        """Return the hub's token, the authority's certificate and the certificates."""
        pems = {VARIABLES[name]: pem for name, pem in properties["certificates"].items()}
        authority = {"WEIGHTS_AUTHORITY": properties["authority"]} if pems else {}
        return {**super().environment(properties), **authority, **pems}


def _wanted(inputs: Props) -> dict[str, certificates.Wanted]:
    """Return the certificates of a machine; none where it shares nothing."""
    variables: Any = inputs.get("vars")
    if not isinstance(variables, Mapping) or not variables.get("weights_address"):
        return {}
    return {
        "server": certificates.Wanted("server", NAME, (variables["weights_name"],)),
        "client": certificates.Wanted("client", NAME),
    }


def _reasons(inputs: Props, old: Props) -> dict[str, str]:
    wanted = _wanted(inputs)
    return issued.reasons_to_issue(wanted, inputs["authority"], old) if wanted else {}


def _undetermined(inputs: Props) -> bool:
    """Return whether a preview does not know what the certificates are made of."""
    return bool(inputs.get("authority_key")) and any(map(has_unknown, (inputs.get("vars"), inputs.get("authority"))))


def _fetches(difference: drift.Difference) -> bool:
    """Return whether its repair fetches: a file that the manifest lists differs, or the manifest's content."""
    manifest = difference.kind == "file" and difference.name.endswith("/manifest.json")
    return difference.kind == "files of" or (manifest and difference.attribute not in revert.ATTRIBUTES)
