"""How to reach a node: address, user, keys, bastion. Pure.

Called by all files of this folder and their callers.
"""

import base64
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet import errors


@dataclass(frozen=True)
class Target:
    """How to reach one node. `host_key` is "TYPE BASE64" as in a .pub file; no `identity` means the SSH agent.

    With a `bastion` the connection goes through that machine, which has its own pinned key.
    """

    name: str
    address: str
    port: int = 22
    user: str = "root"
    host_key: str = ""
    identity: str = ""
    become: bool = False
    bastion: "Target | None" = None

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> "Target":
        """Return the target in the inputs or the `connection` output of a Node; gRPC may send numbers as floats."""
        bastion = inputs.get("bastion")
        return cls(
            bastion=cls.from_inputs({**bastion, "name": f"{inputs['name']}.bastion"}) if bastion else None,
            name=str(inputs["name"]),
            address=str(inputs["address"]),
            port=int(inputs.get("port") or 22),
            user=str(inputs.get("user") or "root"),
            host_key=str(inputs.get("host_key") or ""),
            identity=str(inputs.get("identity") or ""),
            become=bool(inputs.get("become")),
        )

    @property
    def where(self) -> str:
        """Return USER@ADDRESS:PORT, for messages."""
        return f"{self.user}@{self.endpoint}"

    @property
    def endpoint(self) -> str:
        """Return ADDRESS:PORT, for messages; an address of IPv6 in brackets."""
        return f"{f'[{self.address}]' if ':' in self.address else self.address}:{self.port}"

    @property
    def login(self) -> str:
        """Return the ssh command with which a person logs in, for messages."""
        jump = ["-J", self.bastion.where] if self.bastion else []
        return shlex.join(["ssh", *jump, "-p", str(self.port), f"{self.user}@{self.address}"])

    @property
    def key_algorithms(self) -> tuple[str, ...]:
        """Return the signature algorithms of the pinned key's type; we accept no others."""
        return algorithms(self.pinned()[0])

    def pinned(self) -> tuple[str, bytes]:
        """Return (type, public key blob) of the pinned key. Raises HostKeyMismatch if it is missing or malformed."""
        words = self.host_key.split()
        try:
            blob = base64.b64decode(words[1], validate=True)
        except (IndexError, ValueError):
            raise errors.HostKeyMismatch(
                node=self.name,
                doing=f"connect to {self.where}",
                seen=f"host_key is {self.host_key!r}" if self.host_key else "no host key is pinned",
                wanted="the machine's public host key, as in /etc/ssh/ssh_host_ed25519_key.pub there",
                next=f"`fleet enrol -s STACK {shlex.quote(self.name)}`, and compare with what its console shows",
            ) from None
        return words[0], blob


def algorithms(kind: str) -> tuple[str, ...]:
    """Return the signature algorithms of a type of host key."""
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
