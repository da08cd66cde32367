"""The steps of opening a connection: TCP, key exchange with the pinned host key, login; and the messages of their failures.

Needs a Target and paramiko (imported when called). Called by reach.py and host_keys.py.
"""

import base64
import hashlib
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import errors

if TYPE_CHECKING:
    import paramiko

    from fleet.ssh.target import Target


# Seconds until the machine must acknowledge data; the kernel's default is a quarter of an hour.
SILENCE = 30


def dial(target: "Target", timeout: float) -> socket.socket:
    """Open a TCP connection within `timeout` seconds, which breaks after SILENCE seconds without acknowledgement. Raises Unreachable."""
    try:
        sock = socket.create_connection((target.address, target.port), timeout)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # only Linux; elsewhere SSH's keepalive ends the connection
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000)
        return sock
    except OSError as error:
        seen = "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
        raise _unreachable(
            target, f"{seen} within {timeout:g} s" if isinstance(error, TimeoutError) else seen
        ) from error


def dial_through(target: "Target", bastion: "paramiko.Transport", timeout: float) -> "paramiko.Channel":
    """Open a channel through the bastion to the machine within `timeout` seconds. Raises Unreachable."""
    import paramiko

    try:
        return bastion.open_channel("direct-tcpip", (target.address, target.port), ("127.0.0.1", 0), timeout=timeout)
    except (paramiko.SSHException, OSError, EOFError) as error:
        reason = error.text if isinstance(error, paramiko.ChannelException) else "it gave no answer"
        assert target.bastion is not None
        raise _unreachable(target, f"its bastion {target.bastion.where} cannot reach it: {reason.lower()}") from error


def exchange_keys(target: "Target", transport: "paramiko.Transport", timeout: float) -> None:
    """Exchange keys, accepting only the pinned host key. Raises HostKeyMismatch before any data is sent, and Unreachable."""
    import paramiko

    key_type, pinned_key = target.pinned()
    transport.get_security_options().key_types = target.key_algorithms
    start = time.monotonic()
    try:
        transport.start_client(timeout=timeout)
        machine_key = transport.get_remote_server_key().asbytes()  # SSHException after the timeout
    except paramiko.ssh_exception.IncompatiblePeer as error:
        if "host key" not in str(error):
            raise _unreachable(target, f"no common algorithms: {error}") from error
        raise _mismatch(target, f"no host key of type {key_type} there") from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _unreachable(target, failure(transport, error, time.monotonic() - start, timeout)) from error
    if machine_key != pinned_key:
        raise _mismatch(target, f"another host key: {key_type} {fingerprint(machine_key)}")


def failure(transport: "paramiko.Transport", error: Exception, seconds: float, timeout: float) -> str:
    """Return in words how a handshake failed after `seconds`; `timeout` was its limit."""
    # paramiko raises the same SSHException for a closed connection and for a timeout; they differ in its __context__.
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError) or seconds >= timeout:
        return f"connected, but no SSH handshake within {timeout:.1f} s"
    if not transport.remote_version and "indecipherable" not in str(error).lower():
        return f"connected, but the connection was closed before the SSH banner, after {seconds:.1f} s"
    if not transport.remote_version:
        return "connected, but what answers there is no SSH server"
    return f"connected, but the connection was closed during the SSH handshake, after {seconds:.1f} s"


def login(target: "Target", transport: "paramiko.Transport") -> None:
    """Log in with the identity file, or with each key of the agent if there is no file or it has a passphrase. Raises LoginRefused."""
    import paramiko

    agent: paramiko.Agent | None = None
    tried = target.identity or "the keys of the SSH agent"
    try:
        keys: list[paramiko.PKey] = []
        if target.identity:
            try:
                keys = [paramiko.PKey.from_path(Path(target.identity).expanduser())]
            except FileNotFoundError as error:
                raise _refused(target, f"there is no file {target.identity}") from error
            except (paramiko.PasswordRequiredException, TypeError):
                tried = f"the SSH agent, for {target.identity} has a passphrase"
            except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
                raise _refused(target, f"{target.identity} cannot be read as a private key") from error
        if not keys:
            agent = paramiko.Agent()
            keys = list(agent.get_keys())
        for key in keys:
            try:
                if not transport.auth_publickey(target.user, key):
                    return
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    break
        raise _refused(target, f"the login was refused with {tried}" if keys else f"no key to log in with: {tried}")
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _unreachable(target, "the connection broke off during login") from error
    finally:
        if agent is not None:
            agent.close()


def fingerprint(blob: bytes) -> str:
    """Return a public key's fingerprint as OpenSSH prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _unreachable(target: "Target", seen: str) -> errors.Unreachable:
    return errors.Unreachable(
        node=target.name,
        doing=f"connect to {target.where}",
        seen=seen,
        wanted="an SSH server that lets us in",
        next=f"{target.login} true",
    )


def _refused(target: "Target", seen: str) -> errors.LoginRefused:
    return errors.LoginRefused(
        node=target.name,
        doing=f"log in as {target.where}",
        seen=seen,
        wanted=f"a key that {target.user} on {target.name} accepts",
        next="correct nodes.defaults.identity, or `ssh-add` the key",
    )


def _mismatch(target: "Target", seen: str) -> errors.HostKeyMismatch:
    key_type, blob = target.pinned()
    return errors.HostKeyMismatch(
        node=target.name,
        doing=f"connect to {target.where}",
        seen=seen,
        wanted=f"the pinned one: {key_type} {fingerprint(blob)}",
        next=f"find out which machine answers there; after a reinstallation pin the new key as {target.name}'s host_key",
    )
