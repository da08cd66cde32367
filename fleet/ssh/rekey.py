"""Replace a machine's first host key, which its source sent in clear (user data, a seed), by its final one, over SSH.

Others may have read the first key and could impersonate the machine; only this connection transfers the final key. The caller keeps both, so
that an interrupted run can continue. Needs reach.py and script.py. Called by fleet.provider.node.
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
    """The final host key: `public` is "TYPE BASE64", `private` in OpenSSH's format."""

    public: str
    private: str = field(repr=False)

    def pin(self, target: ssh.Target) -> ssh.Target:
        """Return the target with this key pinned."""
        return dataclasses.replace(target, host_key=self.public)


def wait_with_final_key(
    target: ssh.Target, final: FinalKey, timeout: float, note: Callable[[str], None], cancelled: threading.Event
) -> ssh.Target:
    """Wait until the machine answers with its final key; install that if it answers with the first, which `target` pins.

    Return the target with the final key. Raises the errors of ssh.wait; CommandFailed if the key cannot be installed.
    """
    try:
        ssh.wait(final.pin(target), timeout, note, cancelled)
        return final.pin(target)
    except errors.HostKeyMismatch:
        ssh.wait(target, timeout, note, cancelled)
    note("installs its final host key")
    try:
        with ssh.connect(target) as connection:
            key = {"folder": FOLDER, "public": final.public, "private": final.private}
            run_script(connection, SCRIPT.read_text(), key)
    except ScriptFailed as failure:
        raise errors.CommandFailed(
            node=target.name,
            doing=f"install its final host key in {FOLDER}",
            seen=failure.seen,
            wanted="a host key that was sent only over SSH",
            next=f"{target.login}, and look at {FOLDER}; `pulumi up` goes on where this stopped",
        ) from None
    ssh.wait(final.pin(target), timeout, note, cancelled)
    return final.pin(target)
