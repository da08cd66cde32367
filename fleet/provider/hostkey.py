"""The resource HostKey: two SSH host keys for a machine that its source creates, one for the first connection and the final one.

The source installs the first through user data or a seed, which others may read. Node installs the second over SSH, and pins it.
Called by the servicer. Needs cryptography, a dependency of paramiko.
"""

from collections.abc import Mapping

from fleet.impact.effects import Effect
from fleet.provider.base import BaseResource, Request
from fleet.provider.properties import Props


class HostKey(BaseResource):
    """Two ed25519 key pairs in OpenSSH's format, which exist only in the state; `private` and `final` are secrets.

    `final` is the second pair: {public, private}. A state of an earlier release has none; its machine keeps the first.
    """

    computed = ("public", "private", "final")
    replace = ("name",)

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Return no problems."""
        return {}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return no effects: an update keeps the keys."""
        return []

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Create the keys, or keep those of the state."""
        if old and old.get("private"):
            return {**inputs, **{name: old[name] for name in self.computed if name in old}}
        return {**inputs, **_pair(), "final": _pair()}

    def read(self, request: Request, properties: Props) -> Props:
        """Return the properties: the keys exist only in the state."""
        return properties

    def delete(self, request: Request, properties: Props) -> None:
        """Do nothing: the Pulumi engine removes the keys from the state."""


def _pair() -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    return {"public": public.decode(), "private": private.decode()}
