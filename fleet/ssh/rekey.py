"""A machine's first connection, where its host key came to it in clear (user data, a seed): it gets another one over SSH, and shows that.

Whoever read the first key on its way could answer as the machine; the second key has gone nowhere but through the connection. Both are kept
by who calls, so that a run which ended in the middle is gone on with. Needs fleet.ssh. Called by fleet.provider.node.
"""

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fleet import errors, ssh
from fleet.ssh.script import ScriptFailed, run_script

SCRIPT = Path(__file__).with_name("on_node_host_key.py")
FOLDER = "/etc/ssh"


@dataclass(frozen=True)
class FinalKey:
    """The host key that the machine is to have: `public` is "TYPE BASE64", `private` in OpenSSH's form."""

    public: str
    private: str = field(repr=False)

    def pin(self, target: ssh.Target) -> ssh.Target:
        """Return the target with this key pinned."""
        return dataclasses.replace(target, host_key=self.public)


def meet(
    target: ssh.Target, final: FinalKey, timeout: float, note: Callable[[str], None], cancelled: threading.Event
) -> ssh.Target:
    """Wait until the machine answers with its final key; give it that where it still shows the first, which `target` pins.

    Returns the target with the final key. Raises what ssh.wait raises; CommandFailed where the key cannot be put there.
    """
    try:
        ssh.wait(final.pin(target), timeout, note, cancelled)
        return final.pin(target)
    except errors.HostKeyMismatch:
        ssh.wait(target, timeout, note, cancelled)
    note("puts a host key there that has travelled over SSH only")
    try:
        with ssh.connect(target) as connection:
            key = {"folder": FOLDER, "public": final.public, "private": final.private}
            run_script(connection, SCRIPT.read_text(), key)
    except ScriptFailed as failure:
        raise errors.CommandFailed(
            node=target.name,
            doing=f"put another host key into {FOLDER}",
            seen=failure.seen,
            wanted="a key that has not travelled in clear",
            next=f"{target.login}, and look at {FOLDER}; `pulumi up` goes on where this stopped",
        ) from None
    ssh.wait(final.pin(target), timeout, note, cancelled)
    return final.pin(target)
