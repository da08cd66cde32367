"""When apt fails on a node, the message names the cause (roles/host/files/apt_failed.py)."""

import json
import pathlib
import subprocess
import sys

import pytest

FILES = pathlib.Path(__file__).parents[2] / "roles" / "host" / "files"
HOLD = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


def explain(message: str, printed: str = "") -> list[str]:
    """Return the lines of the file for apt's message and standard output."""
    command = [sys.executable, str(FILES / "apt_failed.py")]
    return subprocess.check_output(
        command, input=json.dumps({"said": message, "printed": printed}), text=True
    ).splitlines()


# From `apt-get install` on a terminal; and with DPkg::Lock::Timeout, after that time.
MESSAGES = (
    "E: Could not get lock {lock}. It is held by process 1 (init)\nE: Unable to acquire …",
    "'apt-get install x' failed: E: Unable to acquire the dpkg frontend lock ({lock}), is another process using it?\n"
    "E: Unable to acquire the dpkg frontend lock ({lock}), is another process using it?",
)


@pytest.mark.parametrize("message", MESSAGES, ids=["on-a-terminal", "after-its-timeout"])
def test_the_holder_of_the_lock_is_named_with_its_command(tmp_path: pathlib.Path, message: str) -> None:
    lock = tmp_path / "lock-frontend"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        seen, wanted, remedy = explain(message.format(lock=lock))
        other.communicate("")
    assert seen.startswith(f"apt is locked by process {other.pid} ({sys.executable} -c import fcntl")
    assert seen.endswith(f": {lock}")
    assert wanted == "wanted: the lock within the time that a run waits for it (host_lock_timeout)"
    assert remedy == "next: let it end, or stop it on the node"


def test_the_holder_of_a_lock_that_is_free_by_now_is_the_one_that_apt_named(tmp_path: pathlib.Path) -> None:
    lock = tmp_path / "lock-frontend"
    lock.touch()
    assert explain(f"E: Could not get lock {lock}. It is held by process 812 (unattended-upgr)")[0] == (
        f"apt is locked by process 812 (unattended-upgr): {lock}"
    )


def test_a_package_that_cannot_be_configured_has_dpkgs_message_each_line_once() -> None:
    line = "dpkg: error processing package amd-smi-lib (--configure):"
    summary = "Errors were encountered while processing:\n amd-smi-lib"
    assert explain(f"non-zero return code\n{line}\n installed script returned 1\n{summary}\n{line}\n{summary}")[:3] == [
        line,
        "installed script returned 1",
        "wanted: packages that dpkg can configure",
    ]


UNMET = """Reading package lists...
The following information may help to resolve the situation:

The following packages have unmet dependencies:
 kubelet : Depends: kubernetes-cni (= 1.36.3-1.1) but 1.37.2-1.1 is to be installed
           Depends: ethtool but it is not installable
"""


def test_dependencies_that_apt_cannot_meet_are_named() -> None:
    assert explain(
        "'apt-get install x' failed: E: Unable to correct problems, you have held broken packages.", UNMET
    ) == [
        "kubelet : Depends: kubernetes-cni (= 1.36.3-1.1) but 1.37.2-1.1 is to be installed",
        "Depends: ethtool but it is not installable",
        "wanted: these packages from the machine's sources of apt",
        "next: `apt-cache policy` and `apt-mark showhold` on the node show from where each comes, and what is held",
    ]


def test_any_other_message_stays_as_it_is() -> None:
    assert explain("No package matching 'nothing' is available")[0] == "No package matching 'nothing' is available"
