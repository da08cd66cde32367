"""SSH keys of a lab: one login key for the whole lab, and one host key for each node. Never committed.

Needs ssh-keygen. Called by lab.site and lab.machine.
"""

from pathlib import Path

from lab.commands import run


def make(file: Path, comment: str) -> str:
    """Make an ed25519 key pair in `file` and `file`.pub unless it exists. Return the public key without its comment."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file))
    return " ".join(file.with_suffix(".pub").read_text().split()[:2])
