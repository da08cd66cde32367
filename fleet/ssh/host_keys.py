"""The host keys that answer at an address, of every type: what `fleet enrol` shows before anybody trusts one of them.

Logs in nowhere and sends nothing but SSH's own greeting. Needs paramiko (imported when called). Called by `fleet.cli.enrol`.
"""

import base64
import time
from dataclasses import dataclass

from fleet import errors, ssh
from fleet.ssh import handshake
from fleet.ssh.target import algorithms

# In the order in which one is chosen to be pinned: the shortest and fastest first.
TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


@dataclass(frozen=True)
class Key:
    """A public host key: its type and its blob."""

    type: str
    blob: bytes

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Read "TYPE BASE64", as host_key has it; ValueError where it is none."""
        kind, blob, *_ = text.split()
        return cls(kind, base64.b64decode(blob, validate=True))

    @property
    def fingerprint(self) -> str:
        """The fingerprint as OpenSSH prints it."""
        return handshake.fingerprint(self.blob)

    def __str__(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"


def offered(target: ssh.Target, timeout: float = 15) -> list[Key]:
    """Return the keys of the machine at the target's address, one a type, within `timeout` seconds; Unreachable where none answers.

    The target's own host_key is not looked at; its bastion's is.
    """
    deadline = time.monotonic() + timeout
    found = [key for kind in TYPES if (key := _key(target, kind, max(1.0, deadline - time.monotonic())))]
    if not found:
        raise errors.Unreachable(
            node=target.name,
            doing=f"ask {target.where} for its host keys",
            seen="it offers none that is known here",
            wanted=f"one of {', '.join(TYPES)}",
            next=f"{target.login} -v true",
        )
    return found


def _key(target: ssh.Target, kind: str, timeout: float) -> Key | None:
    """Return the machine's key of one type, None where it has none."""
    import paramiko

    with ssh.way(target, timeout) as sock:
        transport = paramiko.Transport(sock)
        began = time.monotonic()
        try:
            transport.banner_timeout = timeout
            transport.get_security_options().key_types = algorithms(kind)
            transport.start_client(timeout=timeout)
            return Key(kind, transport.get_remote_server_key().asbytes())
        except paramiko.ssh_exception.IncompatiblePeer:
            return None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise errors.Unreachable(
                node=target.name,
                doing=f"ask {target.where} for its host keys",
                seen=handshake.broken(transport, error, time.monotonic() - began, timeout),
                wanted="an SSH server",
                next=f"{target.login} -v true",
            ) from error
        finally:
            transport.close()
