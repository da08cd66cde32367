"""What the role kubernetes does with a member of another version: which way is refused, and in which words; what an upgrade installs and runs.

One run of ansible-playbook evaluates all cases. The upgrade itself, with the genuine kubeadm: tests/kubernetes/test_upgrade.py.
"""

import json
import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

ROLE = pathlib.Path(__file__).parents[2] / "roles" / "kubernetes"
BACK, BY_ONE = "Check that the version does not go back", "Check that the version goes up by one"


@dataclass(frozen=True)
class Case:
    """A member with these packages, and the version that the stack wants."""

    wanted: str
    kubelet: str = "1.36.3-1.1"
    kubeadm: str = ""  # as the kubelet
    upgrading: bool = False
    part: str = "worker"
    member: str = "worker"
    dns: bool = True


CASES = {
    "the same version": Case("1.36.3"),
    "the next patch": Case("1.36.4"),
    "the next minor version": Case("1.37.2", part="first"),
    "two minor versions": Case("1.38.0"),
    "a way down": Case("1.36.2"),
    "interrupted after kubeadm": Case("1.37.2", kubeadm="1.37.2-1.1"),
    "interrupted after the packages": Case("1.37.2", kubelet="1.37.2-1.1", upgrading=True),
    "given up after kubeadm": Case("1.36.3", kubeadm="1.37.2-1.1"),
    "a kubelet that somebody removed": Case("1.37.2", kubelet="", kubeadm="1.37.2-1.1"),
    "without CoreDNS": Case("1.37.2", dns=False),
    "no member yet": Case("1.37.2", kubelet="1.30.0-1.1", member=""),
}


def seen(case: Case) -> dict[str, Any]:
    packages = {"kubelet": case.kubelet, "kubeadm": case.kubeadm or case.kubelet}
    installed = {name: version for name, version in packages.items() if version}
    return {"member": case.member, "begun": False, "upgrading": case.upgrading, "installed": installed, "runtime": ""}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("evaluated")
    checks = {
        task["name"]: task["ansible.builtin.assert"]
        for task in yaml.safe_load((ROLE / "tasks/preflight.yml").read_text())
        if task["name"] in (BACK, BY_ONE)
    }
    values = {
        **{
            name: f"{{{{ _kubernetes_{name} }}}}" for name in ("upgrades", "before_upgrade", "upgrade_words", "upgrade")
        },
        **{name: {"holds": f"{{{{ {check['that']} }}}}", "words": check["fail_msg"]} for name, check in checks.items()},
    }
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    plays = [
        {
            **{"hosts": "localhost", "connection": "local", "gather_facts": False},
            "vars_files": [str(ROLE / "vars/main.yml")],
            "vars": {
                **defaults,
                **{
                    "kubernetes_version": case.wanted,
                    "kubernetes_part": case.part,
                    "kubernetes_dns": case.dns,
                    "role_path": str(ROLE),
                },
                **{"kubernetes_ignored_checks": ["Mem"], "ansible_python_interpreter": sys.executable},
                "__kubernetes_read": {"stdout": json.dumps(seen(case))},
            },
            "tasks": [{"ansible.builtin.debug": {"msg": "{{ values }}"}, "vars": {"values": values}}],
        }
        for case in CASES.values()
    ]
    (folder / "all.yml").write_text(yaml.safe_dump(plays))
    command = [f"{pathlib.Path(sys.executable).parent}/ansible-playbook", "-i", "localhost,", str(folder / "all.yml")]
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert process.returncode == 0, process.stdout + process.stderr
    results = [play["tasks"][0]["hosts"]["localhost"]["msg"] for play in json.loads(process.stdout)["plays"]]
    return dict(zip(CASES, results, strict=True))


def test_another_patch_or_the_next_minor_version_is_an_upgrade_and_an_interrupted_one_goes_on(
    evaluated: dict[str, dict[str, Any]],
) -> None:
    assert {claim for claim, values in evaluated.items() if values["upgrades"] and values[BACK]["holds"]} == {
        *("the next patch", "the next minor version", "two minor versions", "without CoreDNS"),
        *("interrupted after kubeadm", "interrupted after the packages"),
    }


def test_a_way_down_and_two_minor_versions_at_once_are_refused_and_no_member_in_the_midst(
    evaluated: dict[str, dict[str, Any]],
) -> None:
    assert {claim for claim, values in evaluated.items() if not values[BACK]["holds"]} == {
        *("a way down", "given up after kubeadm"),
    }
    assert [claim for claim, values in evaluated.items() if not values[BY_ONE]["holds"]] == ["two minor versions"]


def test_a_refusal_says_what_the_member_has_and_what_to_do(evaluated: dict[str, dict[str, Any]]) -> None:
    assert evaluated["given up after kubeadm"][BACK]["words"].splitlines() == [
        "this member has Kubernetes 1.37.2",
        "wanted: nothing later than 1.36.3 (kubernetes_version): kubeadm takes no way back",
        "next: set kubernetes_version to what the member has, or to a later patch; then `pulumi up`",
    ]
    assert evaluated["two minor versions"][BY_ONE]["words"].splitlines() == [
        "this member has Kubernetes 1.36.3",
        "wanted: at most one minor version before 1.38.0 (kubernetes_version): kubeadm skips none",
        "next: set kubernetes_version to the newest 1.37, `pulumi up`, and go on from there",
    ]


def test_kubeadm_is_new_before_the_kubelet(evaluated: dict[str, dict[str, Any]]) -> None:
    assert evaluated["the next minor version"]["before_upgrade"] == ["kubeadm=1.37.2-*", "containerd"]


def test_the_first_control_plane_upgrades_the_cluster_and_another_member_itself(
    evaluated: dict[str, dict[str, Any]],
) -> None:
    assert evaluated["the next minor version"]["upgrade_words"] == ["apply", "--yes"]
    assert evaluated["the next patch"]["upgrade_words"] == ["node"]
    settings = evaluated["the next minor version"]["upgrade"]
    assert settings["apply"]["kubernetesVersion"] == "v1.37.2"
    assert settings["apply"]["ignorePreflightErrors"] == settings["node"]["ignorePreflightErrors"] == ["Mem"]


def test_a_cluster_without_coredns_is_upgraded_without_its_checks(evaluated: dict[str, dict[str, Any]]) -> None:
    checks = evaluated["without CoreDNS"]["upgrade"]["apply"]["ignorePreflightErrors"]
    assert checks == ["Mem", "CoreDNSUnsupportedPlugins", "CoreDNSMigration"]
