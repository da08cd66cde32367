"""An open SSH connection to a node: run a command there as root, forward a port or a socket of the node.

Needs paramiko (imported when used). Called by all rooms that need a node. reach.py opens connections; script.py runs our scripts.
"""

import contextlib
import functools
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet import errors
from fleet.loopback import Loopback
from fleet.ssh import relay, tunnel
from fleet.ssh.target import Target

if TYPE_CHECKING:
    import paramiko

# Limits in bytes of the whole output of a command, and of a line of `lines`: our scripts print far less, but the node chooses.
MOST, LONGEST = 32 << 20, 1 << 20


@dataclass(frozen=True)
class Result:
    """The result of a command on the node; `rc` is its exit code."""

    rc: int
    stdout: str
    stderr: str


class Connection:
    """An open, authenticated connection; several threads may use it."""

    def __init__(self, target: Target, transport: "paramiko.Transport") -> None:
        self.target = target
        self.transport = transport

    def run(self, command: str, stdin: str = "", timeout: float = 60) -> Result:
        """Run a shell command as root (`sudo -n` with `become`); return its output and exit code, also one that is not 0.

        Raises CommandFailed if it does not end within `timeout` seconds (it may continue there: limit long work on the
        node itself) or prints more than MOST bytes, Unreachable if the connection breaks.
        """
        import paramiko

        deadline = time.monotonic() + timeout
        out: tuple[list[bytes], list[bytes]] = ([], [])
        try:
            with self._exec(command, stdin, timeout) as channel:
                if not self._collect(channel, out, deadline):
                    raise self._floods(command, f"more than {MOST >> 20} MiB of output")
                rc = channel.recv_exit_status() if channel.status_event.wait(deadline - time.monotonic()) else None
        except (paramiko.SSHException, OSError, EOFError) as error:
            if not isinstance(error, TimeoutError):
                raise self._lost(command) from error
            rc = None
        if rc is None:
            raise self._hangs(command, f"no end within {timeout:g} s", "an exit code")
        if rc < 0:
            raise self._lost(command)
        return Result(rc, *(b"".join(part).decode(errors="replace") for part in out))

    def lines(self, command: str, stdin: str = "", silence: float = 60) -> Iterator[str]:
        """Run a shell command as root and yield each line of its stdout at once, without a limit of time.

        Raises CommandFailed if its exit code is not 0, if a line has more than LONGEST bytes, or after `silence` seconds
        without output; Unreachable if the connection breaks.
        """
        import paramiko

        try:
            with self._exec(command, stdin, silence) as channel:
                stdout = channel.makefile("rb")
                while line := stdout.readline(LONGEST):
                    if len(line) >= LONGEST:
                        raise self._floods(command, f"a line of more than {LONGEST >> 20} MiB")
                    yield line.decode(errors="replace")
                rc = channel.recv_exit_status() if channel.status_event.wait(silence) else None
                stderr = channel.makefile_stderr("rb").read(LONGEST).decode(errors="replace") if rc else ""
        except TimeoutError:
            rc, stderr = None, ""
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._lost(command) from error
        if rc is None:
            raise self._hangs(command, f"no output for {silence:g} s", "a line of progress")
        if rc < 0:
            raise self._lost(command)
        if rc:
            raise errors.CommandFailed(
                node=self.target.name,
                doing=_short(command),
                seen=(stderr.strip().splitlines() or [f"exit code {rc}"])[-1],
                wanted="exit code 0",
                next=f"{self.target.login}, and look there",
            )

    @contextlib.contextmanager
    def _exec(self, command: str, stdin: str, timeout: float) -> Iterator["paramiko.Channel"]:
        """Start a command as root, send its stdin and close that; each read waits at most `timeout` seconds."""
        with self._begin(command, timeout) as channel:
            if stdin:
                channel.sendall(stdin.encode())
            channel.shutdown_write()
            yield channel

    @contextlib.contextmanager
    def _begin(self, command: str, timeout: float) -> Iterator["paramiko.Channel"]:
        """Start a command as root with open stdin; each read waits at most `timeout` seconds."""
        line = f"sudo -n -- sh -c {shlex.quote(command)}" if self.target.become else command
        with contextlib.closing(self.transport.open_session(timeout=timeout)) as channel:
            channel.settimeout(timeout)
            channel.exec_command(line)
            yield channel

    @staticmethod
    def _collect(channel: "paramiko.Channel", out: tuple[list[bytes], list[bytes]], deadline: float) -> bool:
        """Read both streams to their end. Return False as soon as they exceed MOST bytes. Raises TimeoutError at the deadline."""
        size, arrival = 0, threading.Event()
        # Not select(channel): close() would close its pipe while paramiko's thread writes to it, and the whole connection breaks.
        channel.in_buffer.set_event(arrival)
        channel.in_stderr_buffer.set_event(arrival)
        while not (channel.eof_received or channel.closed) or channel.recv_ready() or channel.recv_stderr_ready():
            if channel.recv_ready() or channel.recv_stderr_ready():
                part, read = (out[0], channel.recv) if channel.recv_ready() else (out[1], channel.recv_stderr)
                part.append(read(1 << 16))
                size += len(part[-1])
                if size > MOST:
                    return False
                if time.monotonic() > deadline:  # its output does not end
                    raise TimeoutError
            elif (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            else:
                arrival.wait(min(left, 0.5))
        return True

    @contextlib.contextmanager
    def forward(self, remote: int | str, local: int = 0) -> Iterator[int]:
        """Forward a port of this machine's loopback (`local`, 0 = any free one) to the node's 127.0.0.1:`remote`, or its unix socket `remote`.

        Yields the local port, for any number of clients. Raises FleetError if `local` is taken, CommandFailed if the node cannot
        forward to its socket, and Unreachable at the end if the connection broke meanwhile: then clients may have seen no answer.
        """
        doing = f"forward port {remote}" if isinstance(remote, int) else f"forward {remote}"
        with contextlib.ExitStack() as stack:
            listen: Callable[[int], Loopback]
            if isinstance(remote, int):
                listen = functools.partial(tunnel.Listener, self.transport, remote)
            else:
                listen = functools.partial(relay.Listener, stack.enter_context(self._relay(remote, doing)))
            try:
                listener = listen(local)
            except OSError as error:
                raise errors.FleetError(
                    node=self.target.name,
                    doing=doing,
                    seen=f"port {local} of this machine is taken" if local else f"no local port: {error.strerror}",
                    wanted=f"a listener on 127.0.0.1:{local}" if local else "a listener on 127.0.0.1",
                    next="choose another port (0 takes a free one)",
                ) from error
            with listener:
                yield listener.port
        if listener.broken or not self.transport.is_active():
            raise self._lost(doing)

    @contextlib.contextmanager
    def _relay(self, path: str, doing: str) -> Iterator["paramiko.Channel"]:
        """Start the program on the node that forwards to its socket, and wait until it runs. Raises CommandFailed."""
        with self._begin(relay.COMMAND, 15) as channel:
            if error := relay.begin(channel, path):
                raise errors.CommandFailed(
                    node=self.target.name,
                    doing=doing,
                    seen=error,
                    wanted="/usr/bin/python3, run by root there",
                    next=f"{self.target.login}, and look there",
                )
            yield channel

    def _hangs(self, command: str, seen: str, wanted: str) -> errors.CommandFailed:
        return errors.CommandFailed(
            node=self.target.name,
            doing=_short(command),
            seen=seen,
            wanted=wanted,
            next=f"look at the load of {self.target.name}; it may hang on a disk or a lock",
        )

    def _floods(self, command: str, seen: str) -> errors.CommandFailed:
        return errors.CommandFailed(
            node=self.target.name,
            doing=_short(command),
            seen=seen,
            wanted="the short output of our scripts",
            next=f"{self.target.login}, and find out what prints there",
        )

    def _lost(self, command: str) -> errors.Unreachable:
        return errors.Unreachable(
            node=self.target.name,
            doing=_short(command),
            seen="the connection broke",
            wanted="a connection that lasts until the command ends",
            next=f"{self.target.login} uptime",
        )


def _short(command: str) -> str:
    first = command.strip().splitlines()[0] if command.strip() else "a command"
    return first if len(first) <= 60 else f"{first[:57]}..."
