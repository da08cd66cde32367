"""The resource Account: the key of the stack's account at an ACME server, which its gateways share. Called by the servicer."""

from collections.abc import Mapping

from fleet import certificates
from fleet.impact.effects import Effect
from fleet.provider.base import BaseResource, Request
from fleet.provider.properties import Props


class Account(BaseResource):
    """A key, a secret that exists only in the state, and its thumbprint. An update never changes them."""

    computed = ("private", "thumbprint")
    replace = ()

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Return no problems."""
        return {}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return that nothing restarts."""
        return [Effect("none", (), ("the key stays",))]

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Make a key, or keep that of the state."""
        private, thumbprint = (old["private"], old["thumbprint"]) if old else certificates.new_account()
        return {**inputs, "private": private, "thumbprint": thumbprint}

    def read(self, request: Request, properties: Props) -> Props:
        """Return the properties: the key exists only in the state."""
        return properties

    def delete(self, request: Request, properties: Props) -> None:
        """Do nothing: the Pulumi engine removes the key from the state. The ACME server keeps an account that nobody can use."""
