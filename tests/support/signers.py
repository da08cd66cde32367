"""Signs reports as a reviewer does, by OpenSSH's ssh-keygen. Used by tests/preview."""

import subprocess
from pathlib import Path

from fleet.review import report


def make_key(folder: Path, name: str) -> Path:
    """Make a key in the folder; return its private file."""
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def make_signer(folder: Path, name: str) -> Path:
    """Make a key whose owner may sign by the file `signers` of the folder; return its private file."""
    key = make_key(folder, name)
    public = Path(f"{key}.pub").read_text()
    (folder / "signers").write_text(f'{name}@example.com namespaces="{report.NAMESPACE}" {public}')
    return key


def sign(key: Path, file: Path) -> None:
    """Write the signature FILE.sig of a report."""
    Path(f"{file}.sig").unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", report.NAMESPACE, "-f", str(key), str(file)], check=True)
