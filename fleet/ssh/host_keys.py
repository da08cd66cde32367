"""Read the host keys of the machine at an address, for `fleet enrol`, which shows them before a user trusts one.

Exchanges keys, does not log in. Needs paramiko (imported when called). Called by fleet.cli.enrol.
"""

import base64
import time
from dataclasses import dataclass

from fleet import errors, ssh
from fleet.ssh import handshake
from fleet.ssh.target import algorithms

# In the order of preference for pinning: the shortest and fastest first.
TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


@dataclass(frozen=True)
class Key:
    """A public host key: its type and its blob."""

    type: str
    blob: bytes

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Parse "TYPE BASE64", as in host_key. Raises ValueError."""
        kind, blob, *_ = text.split()
        return cls(kind, base64.b64decode(blob, validate=True))

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint as OpenSSH prints it."""
        return handshake.fingerprint(self.blob)

    def __str__(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"


def read_keys(target: ssh.Target, timeout: float = 15) -> list[Key]:
    """Return the host keys at the target's address, one for each type, within `timeout` seconds. Raises Unreachable.

    Ignores the target's own host_key, but verifies its bastion's.
    """
    deadline = time.monotonic() + timeout
    keys = [key for kind in TYPES if (key := _key(target, kind, max(1.0, deadline - time.monotonic())))]
    if not keys:
        raise errors.Unreachable(
            node=target.name,
            doing=f"ask {target.where} for its host keys",
            seen="it offers no key of a known type",
            wanted=f"one of {', '.join(TYPES)}",
            next=f"{target.login} -v true",
        )
    return keys


def _key(target: ssh.Target, kind: str, timeout: float) -> Key | None:
    """Return the machine's key of one type, or None. Raises Unreachable."""
    import paramiko

    with ssh.open_socket(target, timeout) as sock:
        transport = paramiko.Transport(sock)
        start = time.monotonic()
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
                seen=handshake.failure(transport, error, time.monotonic() - start, timeout),
                wanted="an SSH server",
                next=f"{target.login} -v true",
            ) from error
        finally:
            transport.close()
