"""Connect to a node over SSH with its pinned host key: run a command, forward a port or a socket, wait for an answer.

Called by all rooms that need a node, by the names below. Also here: host_keys (the keys at an address), rekey (a new host key for a
machine), script (run a script of ours on a node), reply (read its output).
"""

from fleet.ssh.connection import Connection, Result
from fleet.ssh.reach import connect, known_hosts, open_socket, wait
from fleet.ssh.target import Target

__all__ = ["Connection", "Result", "Target", "connect", "known_hosts", "open_socket", "wait"]
