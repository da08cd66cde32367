"""Address of a replica on its node, from Ansible's results or the stack's state. Pure.

Called by fleet.cli.stack_outputs, fleet.provider.serving and fleet.program.
"""

import re
from collections.abc import Mapping
from typing import Any

from fleet import errors

SOCKET = re.compile(r"/run/fleet/[a-z0-9][a-z0-9_.-]{0,127}/sock")


def socket_or_port(replica: Mapping[str, Any]) -> int | str:
    """Return the path of the replica's unix socket, or its port on the node's loopback. Raises FleetError where it has neither."""
    socket, port = replica.get("socket"), replica.get("port")
    if isinstance(socket, str) and SOCKET.fullmatch(socket):
        return socket
    # Pulumi turns numbers into floats
    if not socket and isinstance(port, int | float) and not isinstance(port, bool) and 0 < port < 65536:
        return int(port)
    raise errors.FleetError(
        doing=f"find where replica {str(replica.get('name'))[:80]} listens",
        seen=f"socket {str(socket)[:80]!r}, port {str(port)[:80]!r}",
        wanted="a socket /run/fleet/NAME/sock, or a port",
        next="`pulumi up` writes it again",
    )


def url(replica: Mapping[str, Any]) -> str:
    """Return the replica's URL on its node: http with its port, or `unix:` and the path of its socket. Raises FleetError."""
    listens = socket_or_port(replica)
    return f"http://127.0.0.1:{listens}/v1" if isinstance(listens, int) else f"unix:{listens}"
