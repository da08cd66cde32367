"""Everything is lost: the commands of docs/recovery.md bring the stack back on a new controller, with new host keys, to an empty preview.

With the real Pulumi engine and the stand-in plugin, whose machines are not there; on lab nodes: tests/e2e/test_e2e_loss.py. Needs `pulumi` on
PATH; skipped with that reason where it is not.
"""

import base64
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import recovery_page
from tests.support.environment import expect_success
from tests.support.pulumi_project import KEY, Fleet, pulumi, stand_in

pytestmark = pytest.mark.timeout(600)  # each deploys a stack several times
KEYS = re.compile(r"AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}")


def another_key() -> str:
    """Return the public part of a new host key."""
    return f"AAAAC3NzaC1lZDI1NTE5AAAAI{base64.b64encode(secrets.token_bytes(32)).decode()[:42]}A"


def test_the_commands_of_the_page_bring_the_stack_back(tmp_path: Path) -> None:
    (tmp_path / "lost").mkdir()
    fleet = Fleet(tmp_path / "lost")
    expect_success(fleet.run("up", "--yes", "--skip-preview"))
    environment = {**os.environ, "FLEET_STATE": str(fleet.project / "state")}
    backup = ("bootstrap/backup.sh", "prod", str(tmp_path / "kept"))
    expect_success(
        subprocess.run(backup, cwd=fleet.project, env=environment, capture_output=True, text=True, check=False)
    )
    (file,) = (tmp_path / "kept").iterdir()
    passphrase = tmp_path / "passphrase"
    shutil.copy(fleet.project / "state" / "passphrase", passphrase)
    earlier = KEYS.findall(fleet.file.read_text())
    shutil.rmtree(fleet.project)

    (tmp_path / "new").mkdir()
    project = stand_in(tmp_path / "new")
    (project / "state" / "machines.json").write_text('{"seconds": {}, "drift": {}, "silent": [], "failing": []}')
    enrol = tmp_path / "enrol.py"
    enrol.write_text(
        "import pathlib, re, sys\n"
        "file, keys = pathlib.Path('stacks/Pulumi.prod.yaml'), iter(sys.argv[1:])\n"
        f"file.write_text(re.sub({KEYS.pattern!r}, lambda _: next(keys), file.read_text()))\n"
    )
    keys = [another_key() for _ in earlier]
    # The clone is of links, also to .venv, which `make` would set up for it; nobody answers `fleet enrol`, so a script pins the new keys.
    instead = {
        "git clone": "true",
        "git checkout": "true",
        "make setup": "true",
        "make restore": "bootstrap/restore.sh BACKUP",
        "fleet enrol": shlex.join([sys.executable, str(enrol), *keys]),
    }
    values = {".pulumi/": "state/", "ENV": "prod", "BACKUP": str(file), "PASSPHRASE": str(passphrase)}
    script = "\n".join(recovery_page.commands(values, instead))
    environment["FLEET_STATE"] = str(project / "state")
    run = subprocess.run(
        ["bash", "-e", "-x", "-c", script], cwd=project, env=environment, capture_output=True, text=True, timeout=560, check=False
    )  # fmt: skip
    expect_success(run)
    pinned = KEYS.findall((project / "stacks" / "Pulumi.prod.yaml").read_text())
    assert pinned == keys and not {*pinned} & {*earlier}
    begun = [line for line in (project / "state" / "runs.log").read_text().splitlines() if line.endswith("begins")]
    assert len(begun) == len({*begun}) == 13, (
        "each node is set up from the start, once: 4 Host, Weights, Serving, and the Image"
    )
    assert pulumi(project, "stack", "output", "api_key", "--show-secrets", "-s", "prod").stdout.strip() == KEY


def test_a_command_that_the_page_no_longer_has_is_reported() -> None:
    with pytest.raises(AssertionError, match=r"docs/recovery\.md has no command"):
        recovery_page.commands({}, {"make everything": "true"})
