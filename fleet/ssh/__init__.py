"""Reach a node over SSH with its pinned host key: run a command, forward a port or a socket, wait for an answer.

Callers use the names below, of connection.py and reach.py. Also here: host_keys (what answers at an address), rekey (a new host key for a machine),
script (a script of the fleet, run on a node), reply (the reader of what it printed).
"""

from fleet.ssh.connection import Connection, Result
from fleet.ssh.reach import connect, known_hosts, wait, way
from fleet.ssh.target import Target

__all__ = ["Connection", "Result", "Target", "connect", "known_hosts", "wait", "way"]
