"""Whether a process listens on a port, for roles whose programs do.

Stdlib only. The roles gateway (read.py) and weights (source_read.py) send this file to a node in front of their readers.
"""

import errno
import socket


def listening(port: int) -> bool:
    """Return whether a process listens on a port, on any address."""
    return is_taken(socket.AF_INET, "0.0.0.0", port) or (socket.has_ipv6 and is_taken(socket.AF_INET6, "::", port))


def is_taken(family: socket.AddressFamily, every: str, port: int) -> bool:
    """Return whether a process listens on a port, on any address of a family; not in a kernel without the family."""
    try:
        probe = socket.socket(family)
    except OSError:
        return False
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((every, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
