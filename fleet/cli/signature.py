"""Checks who approved a report: a detached signature by `ssh-keygen -Y sign`, and the file of those who may sign.

Needs OpenSSH's ssh-keygen on PATH. Called by apply.py.
"""

import subprocess
from pathlib import Path

from fleet import errors, printable
from fleet.review import report


def signer(text: str, file: Path, signature: Path, signers: Path) -> str:
    """Return who signed the text of the report `file`. Raises NotApproved for nobody, somebody else, or another text."""
    if not signature.is_file():
        raise _refusal(
            file, f"no signature {signature}", signers, f"ssh-keygen -Y sign -n {report.NAMESPACE} -f KEY {file}"
        )
    if not signers.is_file():
        raise _refusal(file, f"no file {signers}", signers, "man ssh-keygen, ALLOWED SIGNERS, has its form")
    found = _keygen(text, "find-principals", "-s", str(signature), "-f", str(signers))
    names = found.stdout.splitlines() if found.returncode == 0 else []
    for name in names:
        options = ("-I", name, "-n", report.NAMESPACE, "-s", str(signature), "-f", str(signers))
        if _keygen(text, "verify", *options).returncode == 0:
            return printable.plain(name)
    seen = "signed by somebody else" if not names else f"{names[0]} signed another text"
    raise _refusal(file, seen, signers, "`fleet review --read FILE` shows what it says; sign that")


def _keygen(text: str, what: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["ssh-keygen", "-Y", what, *options]
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise errors.FleetError(
            doing="check a signature", seen="no `ssh-keygen` on PATH", next="install OpenSSH"
        ) from None


def _refusal(file: Path, seen: str, signers: Path, next_step: str) -> errors.NotApproved:
    wanted = f"a signature of one of {signers}"
    return errors.NotApproved(doing=f"apply {file}", seen=seen, wanted=wanted, next=next_step)
