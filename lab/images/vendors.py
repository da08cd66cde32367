"""Nodes that look like a vendor's machines: a bare node, changed as the vendor prepares it (vendors/NAME.sh).

Owns nothing; the node is lab.machine's. Needs SSH as root and, where a script installs Docker, the distribution's archive.
Called by tests/vendors. To add a vendor: a script here, a row in tests/vendors/machines.yml.
"""

import shlex
from pathlib import Path

from fleet import ssh
from lab.commands import LabError

FILES = Path(__file__).with_name("vendors")
PROGRAMS = {"engine.py": "lab-vendor-engine", "load.py": "lab-vendor-load"}
NAMES = tuple(sorted(file.stem for file in FILES.glob("*.sh") if file.name != "common.sh"))


def script(name: str, key: str) -> str:
    """Return the script for the node. `key` is the armoured key of the lab's package archive."""
    programs = [
        f"cat >/usr/local/sbin/{to} <<'PROGRAM'\n{(FILES / file).read_text()}PROGRAM\n" for file, to in PROGRAMS.items()
    ]
    texts = [(FILES / file).read_text() for file in ("common.sh", f"{name}.sh")]
    return "\n".join([f"LAB_KEY={shlex.quote(key)}", *programs, *texts])


def apply(node: ssh.Target, name: str, key: str) -> None:
    """Turn a bare node into a vendor's machine; reboot it afterwards. Raises LabError with the script's messages."""
    with ssh.connect(node) as connection:
        answer = connection.run("/bin/sh -s", stdin=script(name, key), timeout=300)
    if answer.rc:
        raise LabError(f"make {node.name} a machine of {name}: exit code {answer.rc}: {answer.stderr.strip()[-500:]}")
