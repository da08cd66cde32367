"""When apt fails on a node, the message names what it met (roles/host/files/apt_failed.py)."""

import json
import pathlib
import subprocess
import sys

import pytest

FILES = pathlib.Path(__file__).parents[2] / "roles" / "host" / "files"
HOLD = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


def told(said: str) -> list[str]:
    """What the file makes of apt's message."""
    command = [sys.executable, str(FILES / "apt_failed.py")]
    return subprocess.run(
        command, input=json.dumps(said), check=True, capture_output=True, text=True
    ).stdout.splitlines()


# As `apt-get install` says it on a terminal; and how it does with DPkg::Lock::Timeout, when the time is over.
WAYS = (
    "E: Could not get lock {lock}. It is held by process 1 (init)\nE: Unable to acquire …",
    "'apt-get install x' failed: E: Unable to acquire the dpkg frontend lock ({lock}), is another process using it?\n"
    "E: Unable to acquire the dpkg frontend lock ({lock}), is another process using it?",
)


@pytest.mark.parametrize("said", WAYS, ids=["on-a-terminal", "after-its-timeout"])
def test_who_holds_the_lock_is_named_with_what_it_runs(tmp_path: pathlib.Path, said: str) -> None:
    lock = tmp_path / "lock-frontend"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        seen, wanted, after = told(said.format(lock=lock))
        other.communicate("")
    assert seen.startswith(f"apt is locked by process {other.pid} ({sys.executable} -c import fcntl")
    assert seen.endswith(f": {lock}")
    assert wanted == "wanted: the lock within the time that a run waits for it (host_lock_timeout)"
    assert after == "next: let it end, or stop it on the node"


def test_a_lock_that_is_free_by_now_has_the_holder_that_apt_named(tmp_path: pathlib.Path) -> None:
    lock = tmp_path / "lock-frontend"
    lock.touch()
    assert told(f"E: Could not get lock {lock}. It is held by process 812 (unattended-upgr)")[0] == (
        f"apt is locked by process 812 (unattended-upgr): {lock}"
    )


def test_a_package_that_cannot_be_configured_is_told_as_dpkg_tells_it_each_line_once() -> None:
    line = "dpkg: error processing package amd-smi-lib (--configure):"
    summary = "Errors were encountered while processing:\n amd-smi-lib"
    assert told(f"non-zero return code\n{line}\n installed script returned 1\n{summary}\n{line}\n{summary}")[:3] == [
        line,
        "installed script returned 1",
        "wanted: packages that dpkg can configure",
    ]


def test_anything_else_is_told_as_it_is() -> None:
    assert told("No package matching 'nothing' is available")[0] == "No package matching 'nothing' is available"
