"""Runs on the node, as root: write a host key into a folder (/etc/ssh) and reload sshd.

Called by rekey.py with {folder, private, public}. Prints nothing. Needs Python 3.10's standard library.
"""

import os
import pathlib
import subprocess

NAME = "ssh_host_ed25519_key"


def write(folder: pathlib.Path, name: str, text: str, mode: int) -> None:
    """Write a file atomically, with its mode from the first byte."""
    draft = folder / f".{name}.fleet"
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    draft.replace(folder / name)


def main(key: dict[str, str]) -> None:
    folder = pathlib.Path(key["folder"])
    write(folder, f"{NAME}.pub", key["public"].rstrip("\n") + "\n", 0o644)
    write(folder, NAME, key["private"].rstrip("\n") + "\n", 0o600)
    if pathlib.Path("/run/systemd/system").is_dir():
        for unit in ("ssh.service", "sshd.service"):
            if subprocess.run(["systemctl", "is-active", "--quiet", unit], timeout=30).returncode == 0:
                subprocess.run(["systemctl", "reload", unit], check=True, timeout=30)
                return
