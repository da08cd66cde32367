"""The resource HostKey: the SSH host keys of a machine that is still to be made, the one that it is made with and the one that it keeps.

Its source gives the first to the machine, in user data or a seed, which others may read; Node gives it the second over SSH, and pins that.

Used by the servicer. Needs cryptography, which paramiko brings.
"""

from collections.abc import Mapping

from fleet.impact.effects import Effect
from fleet.provider.base import BaseResource, Request
from fleet.provider.properties import Props


class HostKey(BaseResource):
    """Two ed25519 key pairs, made once and kept in the state: `public` as OpenSSH writes it, `private` in OpenSSH's own form, a secret.

    `final` is the second pair, as {public, private}; a key of an earlier release has none, and its machine keeps the first.
    """

    computed = ("public", "private", "final")
    replace = ("name",)

    def check(self, inputs: Props) -> Mapping[str, str]:
        """It has nothing that could be wrong."""
        return {}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """It lies on no machine."""
        return []

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Make the keys; those that are there stay."""
        if old and old.get("private"):
            return {**inputs, **{name: old[name] for name in self.computed if name in old}}
        return {**inputs, **_pair(), "final": _pair()}

    def read(self, request: Request, properties: Props) -> Props:
        """The state is where it lives."""
        return properties

    def delete(self, request: Request, properties: Props) -> None:
        """It goes with the state."""


def _pair() -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    made = Ed25519PrivateKey.generate()
    private = made.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = made.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    return {"public": public.decode(), "private": private.decode()}
