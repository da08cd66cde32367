"""An SSH server in this process, for tests of fleet.ssh that need no node: it runs commands here, as the tests' user.

Owns its port, its threads and its throw-away keys; counts connections and commands. A folder of the test replaces a machine's
/var/lib/fleet: no command here reads or writes this machine's own. Used by the fixture `server`.
"""

import contextlib
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko

from fleet import preflight, ssh

KEPT = Path("/var/lib/fleet")
READS = b"os.read(0, 1)"  # of fleet.ssh.relay.COMMAND, which reads its input byte by byte


class Server:
    """Listens on a port of the loopback (0: any free one) until `close`. With a `root` its commands see that folder's /etc.

    `rereads`: each connection gets that folder's host key, as from an sshd that has reloaded.
    """

    def __init__(self, folder: Path, port: int = 0, root: Path | None = None, rereads: bool = True) -> None:
        self.root, self.rereads = root, rereads
        self.host_key = make_key(folder, "host")
        self.user_key = make_key(folder, "user")
        self.identity = folder / "user"
        self.connections, self.commands = 0, list[str]()
        self.relays = list[int]()  # exit codes of programs that carried connections
        self.kept = folder / "kept"  # in place of KEPT
        self.look: Callable[[], str] | None = None  # the facts for a preflight, in place of this machine's
        self.looks = 0
        self.rewrite: Callable[[bytes], bytes] | None = None  # how a hostile machine changes its commands' output
        self.gate = threading.Event()  # a handshake waits for it
        self.gate.set()
        self.arrived = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def target(self) -> ssh.Target:
        """How to reach it, with the right key pinned."""
        port = self._listener.getsockname()[1]
        return ssh.Target("glm-1", "127.0.0.1", port, "root", public(self.host_key), str(self.identity))

    def close(self) -> None:
        """End the listener and every connection; may be called again."""
        if self._listener.fileno() < 0:
            return
        self.gate.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for transport in self._transports:
            transport.close()

    def _shown(self) -> paramiko.PKey:
        """Return the host key of its `root`, where it has one and rereads it."""
        own = self.root / "etc" / "ssh" / "ssh_host_ed25519_key" if self.root and self.rereads else None
        return paramiko.Ed25519Key.from_private_key_file(str(own)) if own and own.exists() else self.host_key

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.arrived.set()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.gate.wait()
        transport = paramiko.Transport(client)
        transport.add_server_key(self._shown())
        self._transports.append(transport)
        try:
            transport.start_server(server=_Rules(self), event=threading.Event())
        except (paramiko.SSHException, EOFError):
            return  # a client that refused our key


class _Rules(paramiko.ServerInterface):
    def __init__(self, server: Server) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        right = key.asbytes() == self._server.user_key.asbytes()
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.commands.append(command.decode())
        text = command.decode().replace("/etc/", f"{self._server.root}/etc/" if self._server.root else "/etc/")
        run = self._relay if READS in command else self._run
        threading.Thread(target=run, args=(channel, text), daemon=True).start()
        return True

    def check_channel_direct_tcpip_request(self, chanid: int, origin: Any, destination: Any) -> int:
        try:
            self._server_side = socket.create_connection(destination, 5)
        except OSError:
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        threading.Thread(target=self._carry, args=(chanid, self._server_side), daemon=True).start()
        return paramiko.OPEN_SUCCEEDED

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        with tempfile.TemporaryFile() as stdin:
            for data in iter(lambda: channel.recv(1 << 16), b""):
                stdin.write(data)
            stdin.seek(0)
            script = stdin.read()
            if self._server.root:
                script = script.replace(b'"/etc/', f'"{self._server.root}/etc/'.encode())
            if script.startswith(preflight.SCRIPTS[0].read_bytes()) and self._server.look:
                self._server.looks += 1
                command, script = "cat", self._server.look().encode()
            stdin.seek(0)
            stdin.truncate()
            stdin.write(script.replace(bytes(KEPT), bytes(self._server.kept)))
            stdin.seek(0)
            command = command.replace(str(KEPT), str(self._server.kept))
            process = subprocess.Popen(
                ["sh", "-c", command], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        try:
            assert process.stdout and process.stderr
            errors = threading.Thread(target=_pump, args=(process.stderr.read1, channel.sendall_stderr, lambda: None))
            errors.start()
            if self._server.rewrite:
                channel.sendall(self._server.rewrite(process.stdout.read()))
            _pump(process.stdout.read1, channel.sendall, lambda: None)
            errors.join()
            channel.send_exit_status(process.wait())
        except (OSError, EOFError):
            return  # the client left before the end
        finally:
            with contextlib.suppress(OSError, EOFError):
                channel.close()

    def _relay(self, channel: paramiko.Channel, command: str) -> None:
        """Run a command, and pass on its input while it runs."""
        process = subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        assert stdin and stdout and stderr
        threading.Thread(target=_pump, args=(channel.recv, stdin.write, stdin.close), daemon=True).start()
        _pump(stdout.read, channel.sendall, lambda: None)
        _pump(stderr.read, channel.sendall_stderr, lambda: None)
        self._server.relays.append(process.wait())
        channel.close()

    def _carry(self, chanid: int, service: socket.socket) -> None:
        transport = self._server._transports[-1]
        channel = transport.accept(5)
        if channel is None:
            return
        threading.Thread(target=_pump, args=(service.recv, channel.sendall, channel.close), daemon=True).start()
        _pump(channel.recv, service.sendall, service.close)


def _pump(read: Any, write: Any, end: Any) -> None:
    try:
        while data := read(1 << 16):
            write(data)
    except (OSError, EOFError):  # one side left
        pass
    finally:
        end()


def make_key(folder: Path, name: str) -> paramiko.PKey:
    """Return folder/NAME and its public half NAME.pub, made where they are missing."""
    if not (folder / name).exists():
        folder.mkdir(exist_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    return paramiko.PKey.from_path(folder / name)


def public(key: paramiko.PKey) -> str:
    """Return a key's public half as a stack file pins it."""
    return f"{key.get_name()} {key.get_base64()}"
