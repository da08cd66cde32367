"""The resource HostKey: the SSH host key of a machine that is still to be made. Its source gives it to the machine; Node pins it.

Used by the servicer. Needs cryptography, which paramiko brings.
"""

from collections.abc import Mapping

from fleet.plan.effects import Effect
from fleet.provider.resources import Fixed, Request
from fleet.provider.structs import Props


class HostKey(Fixed):
    """An ed25519 key pair, made once and kept in the state: `public` as OpenSSH writes it, `private` in OpenSSH's own form, a secret."""

    computed = ("public", "private")
    replace = ("name",)

    def check(self, inputs: Props) -> Mapping[str, str]:
        """It has nothing that could be wrong."""
        return {}

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """It lies on no machine."""
        return []

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Make the key; one that is there stays."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if old and old.get("private"):
            return {**inputs, **{name: old[name] for name in self.computed}}
        made = Ed25519PrivateKey.generate()
        form = serialization
        private = made.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
        public = made.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
        return {**inputs, "public": public.decode(), "private": private.decode()}

    def read(self, request: Request, properties: Props) -> Props:
        """The state is where it lives."""
        return properties

    def delete(self, request: Request, properties: Props) -> None:
        """It goes with the state."""
