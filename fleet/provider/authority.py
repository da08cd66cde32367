"""The resource Authority: the stack's own certificate authority, which signs the certificates of its proxies. Called by the servicer."""

import datetime
from collections.abc import Mapping

from fleet import certificates
from fleet.impact.effects import Effect
from fleet.provider.base import BaseResource, Request
from fleet.provider.properties import UNKNOWN, Props


class Authority(BaseResource):
    """A certificate for ten years and its key, a secret; both exist only in the state.

    In its last year an update renews the certificate with the same key: what it has signed stays right, and clients that have the old
    certificate go on until its end.
    """

    computed = ("certificate", "private", "ends")
    replace = ()

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Return no problems."""
        return {}

    def due(self, properties: Props) -> Mapping[str, str]:
        """Return the reason to renew the certificate in its last year."""
        day = datetime.date.fromisoformat(properties["ends"])
        reason = certificates.reason_to_renew(day, certificates.now(), certificates.AUTHORITY_RENEW)
        return {"certificate": reason} if reason else {}

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return the old outputs, certificate and end UNKNOWN before the create and where it is renewed."""
        planned = super().planned_outputs(inputs, old_inputs, old)
        return planned | (dict.fromkeys(("certificate", "ends"), UNKNOWN) if old and self.due(old) else {})

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return that nothing restarts, with the reason to renew: the proxies reload when they get the new certificate."""
        return [Effect("none", (), tuple(self.due(old).values()))]

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Make the authority, or keep that of the state, with a new certificate where one is due."""
        if not old:
            certificate, private = certificates.new_authority(f"glm-fleet {request.stack}", certificates.now())
        elif self.due(old):
            certificate = certificates.renewed_authority(old["certificate"], old["private"], certificates.now())
            private = old["private"]
        else:
            return {**inputs, **{name: old[name] for name in self.computed}}
        ends = certificates.ends(certificate).isoformat()
        request.report(f"its certificate ends {ends}", False)
        return {**inputs, "certificate": certificate, "private": private, "ends": ends}

    def read(self, request: Request, properties: Props) -> Props:
        """Return the properties: the authority exists only in the state."""
        return properties

    def delete(self, request: Request, properties: Props) -> None:
        """Do nothing: the Pulumi engine removes the key from the state."""
