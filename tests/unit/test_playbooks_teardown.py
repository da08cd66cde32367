"""playbooks/files/teardown.py where a real node would need long preparation: it keeps what others use by now, and reports it.

Its commands are stand-ins on a PATH of their own; it reads nothing of this machine. On real nodes: tests/matrix/test_teardown.py.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
SCRIPT = PLAYBOOKS / "files" / "teardown.py"
# `apt-get --simulate … purge NAMES`: what is named, and what the file needs/NAME has. Every package is installed, every unit there.
COMMANDS = {
    "dpkg-query": "echo installed 1.0",
    "apt-get": 'for word; do case $word in -*|purge) ;; *) echo "Purg $word [1.0]"; /bin/cat needs/$word 2>/dev/null;; esac; done; true',
    "apt-mark": "true",
    "systemctl": 'echo "$@" >>systemctl.log',
    "id": "[ $2 != gone ]",
    "usermod": 'echo usermod "$@" >>users.log',
    "userdel": 'echo userdel "$@" >>users.log; [ $1 != busy ] || { echo "userdel: user busy is in use" >&2; exit 8; }',
    "docker": "case $1 in ps) /bin/cat containers;; volume) /bin/cat volumes;; esac 2>/dev/null; true",
}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for name, script in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "needs").mkdir()
    return tmp_path


def run_teardown(host: Path, script: str = SCRIPT.read_text(), **managed: Any) -> dict[str, Any]:
    command, env = [sys.executable, "-c", script], {"PATH": str(host)}
    process = subprocess.run(command, input=json.dumps(managed), cwd=host, capture_output=True, text=True, env=env)
    assert process.returncode == 0, process.stderr
    return dict(json.loads(process.stdout))


def test_a_teardown_removes_our_packages_and_stops_our_docker_daemon(host: Path) -> None:
    report = run_teardown(host, packages=["docker.io", "amd-smi-lib"], units=["docker.service"])
    assert report["packages"] == ["amd-smi-lib", "docker.io"]
    assert [line for line in report["stays"] if not line.startswith("until the next reboot")] == []
    log = (host / "systemctl.log").read_text()
    assert "disable --now docker.service\n" in log
    assert "disable --now docker.socket\n" in log, "which would start it again"


def test_a_teardown_removes_a_docker_daemon_without_a_client(host: Path) -> None:
    (host / "docker").unlink()
    report = run_teardown(
        host, packages=["docker.io"], units=["docker.service"], containers=["glm-0"], images=["lab/vllm"]
    )
    assert report["packages"] == ["docker.io"]


@pytest.mark.parametrize(("file", "line"), [("containers", "container theirs"), ("volumes", "volume theirs")])
def test_our_docker_daemon_keeps_running_where_others_use_it(host: Path, file: str, line: str) -> None:
    (host / file).write_text(f"{line}\n")
    report = run_teardown(host, packages=["docker.io", "amd-smi-lib"], units=["docker.service"])
    assert report["packages"] == ["amd-smi-lib"]
    assert report["stays"] == [f"docker.io, docker.service: others use it ({line})"]
    assert "docker.service" not in (host / "systemctl.log").read_text()


def test_a_docker_daemon_that_we_only_started_keeps_running_where_others_use_it(host: Path) -> None:
    (host / "containers").write_text("container theirs\n")
    report = run_teardown(host, packages=["amd-smi-lib"], units=["docker.service"])
    assert report["stays"] == ["docker.service: others use it (container theirs)"]
    assert "docker.service" not in (host / "systemctl.log").read_text()


def test_a_package_of_ours_that_another_one_needs_stays_installed(host: Path) -> None:
    (host / "needs" / "docker.io").write_text("Purg docker-compose [1.29]\n")
    report = run_teardown(host, packages=["docker.io", "amd-smi-lib"], units=["docker.service"])
    assert "docker.service" not in (host / "systemctl.log").read_text()
    assert (report["packages"], report["stays"]) == (["amd-smi-lib"], ["docker.io: docker-compose needs it"])


REVISION = "ab" * 20


def model(host: Path, revision: str, record: object) -> Path:
    """Make a folder of a revision among our models."""
    folder = host / "models" / "lab" / "GLM" / revision
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if record is not None:
        (folder / "manifest.json").write_text(record if isinstance(record, str) else json.dumps(record))
    return folder


def test_a_teardown_removes_only_the_models_with_our_record(host: Path) -> None:
    ours = model(host, REVISION, {"repository": "lab/GLM", "revision": REVISION, "files": {}})
    incoming = model(host, f".incoming-{REVISION}", None)
    incoming.with_name(f".wanted-{REVISION}.json").write_text("{}")
    theirs = [
        model(host, "01" * 20, None),
        model(host, "02" * 20, "[]"),
        model(host, "03" * 20, "[" * 100_000),
        model(host, "04" * 20, {"repository": "lab/GLM", "revision": REVISION, "files": {}}),
        model(host, "05" * 20, {"repository": "lab/other", "revision": "05" * 20, "files": {}}),
        model(host, "06" * 20, {"repository": "lab/GLM", "revision": "06" * 20, "files": []}),
        model(host, f".incoming-{'07' * 20}", None),
    ]
    elsewhere = host / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_text("{}")
    (elsewhere / "manifest.json").write_text(json.dumps({"repository": "lab/GLM", "revision": "08" * 20, "files": {}}))
    (host / "models" / "lab" / "GLM" / ("08" * 20)).symlink_to(elsewhere)
    model(host, "main", None)
    report = run_teardown(host, models=[str(host / "models" / "lab" / "GLM")])
    assert sorted(report["gone"]) == sorted(map(str, (ours, incoming)))
    assert all((path / "config.json").exists() for path in (*theirs, elsewhere))
    stays = [line for line in report["stays"] if "no record of a fetch by this fleet" in line]
    assert len(stays) == len(theirs) + 1


def test_a_user_of_ours_goes_without_its_group_which_another_role_may_have_made(host: Path) -> None:
    report = run_teardown(host, users=["fleet-proxy", "gone", "busy"])
    assert (report["gone"], report["stays"]) == (["user fleet-proxy"], ["user busy: userdel: user busy is in use"])
    commands = (host / "users.log").read_text().splitlines()
    assert commands[:2] == ["usermod --gid nogroup fleet-proxy", "userdel fleet-proxy"]


def test_what_only_a_reboot_ends_is_reported_where_it_is_there(host: Path) -> None:
    (host / "member").touch()
    things = [{"path": str(host / name), "words": f"the rules of {name}"} for name in ("member", "never-joined")]
    assert "until the next reboot the rules of member" in run_teardown(host, until_reboot=things)["stays"]
    assert "never-joined" not in str(run_teardown(host, until_reboot=things)["stays"])


def test_packages_that_are_held_are_purged_too() -> None:
    (play,) = yaml.safe_load((PLAYBOOKS / "teardown.yml").read_text())
    (purge,) = [task for task in play["tasks"] if task["name"] == "Remove packages"]
    assert purge["ansible.builtin.apt"]["allow_change_held_packages"] is True, "kubeadm, kubelet and kubectl are held"


def test_a_teardown_empties_a_mounted_file_system_and_touches_none_that_is_mounted_deeper(host: Path) -> None:
    """Its unmounting is its owner's: /var/lib/docker and /var/lib/kubelet often have a disk of their own."""
    for name in ("own disk/images", "pods/volume"):
        (host / name).mkdir(parents=True)
        (host / name / "file").touch()
    lines = [f"36 25 8:1 / {host}/{name} rw - ext4 /dev/sda1 rw" for name in (r"own\040disk", "pods/volume")]
    (host / "mountinfo").write_text("\n".join(lines))
    script = SCRIPT.read_text().replace("/proc/self/mountinfo", str(host / "mountinfo"))
    report = run_teardown(host, script, trees=[f"{host}/own disk", f"{host}/pods"])
    assert [*(host / "own disk").iterdir()] == []
    assert (host / "pods" / "volume" / "file").exists()
    assert report["gone"] == [f"{host}/own disk/images"]
    assert report["stays"] == [
        f"{host}/own disk: empty, a file system is mounted there",
        f"{host}/pods: file systems are mounted below it",
    ]
