"""Weights and image that do not fit the disk of the plan are refused before a machine is created."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import preflight
from fleet.stack import requirements, role_vars, rules, settings, stack_file, validate
from fleet.stack.rules import disks
from tests.support.builders import bf16

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "stack"
ROLES = role_vars.load(ROOT / "roles")
DISK = {"serial": "S64GNE0R123456", "path": "/srv", "type": "xfs"}


IMAGE = "70 GB for the serving image (estimate)"
BOTH = f"215 GB for the weights and {IMAGE}"
SMALL, LARGE = "the disk is as large as the image, about 50 GB, and must hold", "the disk is 100 GB and must hold"


def check(rule: str, values: dict[str, Any], disk: rules.Disk | None = None) -> list[Any]:
    """Return the findings of one rule on a machine with 8 GPUs."""
    plan = rules.MachinePlan(values, 8, disk)
    return [finding for each in rules.RULES if each.name == rule for finding in each.check(plan)]


@pytest.mark.parametrize(
    ("claim", "disk", "values", "seen"),
    [
        ("without disk_gb it is as large as the image", rules.Disk(50, False), {}, [f"{SMALL} {BOTH}"]),
        ("disk_gb is too small by a gigabyte", rules.Disk(285, True), {}, [f"the disk is 285 GB and must hold {BOTH}"]),
        ("disk_gb fits with one more", rules.Disk(286, True), {}, []),
        ("a disk of unknown size is not checked", None, {}, []),
        ("weights on a disk of their own", rules.Disk(100, True), {"host_filesystems": [DISK]}, []),
        ("a folder whose name begins alike", rules.Disk(100, True), {"host_filesystems": [{**DISK, "path": "/srv/mod"}]}, [f"{LARGE} {BOTH}"]),
        ("the image stays on the system's disk", rules.Disk(50, False), {"host_filesystems": [DISK]}, [f"{SMALL} {IMAGE}"]),
        ("but not with Docker's data elsewhere", rules.Disk(50, False), {"host_filesystems": [DISK], "docker_daemon_options": {"data-root": "/srv/docker"}}, []),
        ("the image counts for a model of unknown size", rules.Disk(50, False), {"weights_repository": "own/model"}, [f"{SMALL} {IMAGE}"]),
    ],
)  # fmt: skip
def test_a_disk_must_hold_weights_and_image(
    claim: str, disk: rules.Disk | None, values: dict[str, Any], seen: list[str]
) -> None:
    machine = {"weights_dir": "/srv/models", "host_filesystems": [], **bf16(), **values}
    assert [finding.seen for finding in check("disk-fits", machine, disk)] == seen, claim


def oci(disk_gb: int | None = None, machine: int | None = None) -> settings.Settings:
    """Return the stack prod on two instances of OCI."""
    prod = yaml.safe_load((ROOT / "stacks" / "Pulumi.prod.yaml").read_text())["config"]
    pool = {
        "source": "oci",
        "compartment": "ocid1.compartment.oc1..aaaa",
        "availability_domain": "Uocm:PHX-AD-1",
        "shape": "BM.GPU.MI300X.8",
        "image": "ocid1.image.oc1.phx.aaaa",
        "ssh_from": ["192.0.2.0/24"],
        "keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJc0gWgNv9qpDwo4fLNLD9T/Vupb4qMp3hGdhvI5GoUO ops"],
        "machines": {"prod-1": {}, "prod-2": {"disk_gb": machine} if machine else {}},
        **({} if disk_gb is None else {"disk_gb": disk_gb}),
    }
    return settings.read({"nodes": pool, "vars": prod["glm-fleet:vars"]}, "stacks/Pulumi.prod.yaml")


def mistakes(stack: settings.Settings) -> list[str]:
    findings = validate.validate(stack, ROLES, "stacks/Pulumi.prod.yaml", datetime.date(2026, 11, 29))
    return [str(mistake) for mistake in findings.mistakes]


def test_a_pool_without_disk_gb_is_refused_once_for_all_of_its_machines() -> None:
    (message,) = mistakes(oci())
    assert message == (GOLDEN / "no-disk-gb.txt").read_text().rstrip("\n")
    assert mistakes(oci(1024)) == []


def test_a_machine_that_has_less_than_its_pool_is_named() -> None:
    (message,) = mistakes(oci(1024, 200))
    assert message.startswith(
        "stacks/Pulumi.prod.yaml: nodes.machines.prod-2.disk_gb: 200: the disk is 200 GB and must hold"
    )


def test_the_preflight_requires_the_same_space() -> None:
    stack = oci(1024)
    manifest = f"/srv/models/zai-org/GLM-4.6V/{stack.vars['weights_revision']}/manifest.json"
    assert requirements.of_machine(stack, ROLES, "prod-1", "glm-fleet/prod")["space"] == [
        {"path": "/srv/models", "bytes": 215_400_000_000, "what": "the weights", "filled": manifest},
        {"path": "/var/lib/docker", "bytes": 70_000_000_000, "what": "the serving image (estimate)", "filled": ""},
    ]


SERIALS = ("/dev/nvme0n1", "S 1 2 3", "", DISK["serial"])
PATHS = ("srv", "/", "/data/../etc", "/var/lib", "/data/", "/srv")


@pytest.mark.parametrize(
    ("key", "value"), [*(("serial", value) for value in SERIALS), *(("path", value) for value in PATHS)]
)
def test_a_wrong_serial_or_path_of_a_disk_is_refused(key: str, value: str) -> None:
    entries = [DISK, {"serial": "S2SN", "path": "/data", "type": "xfs", key: value}]
    findings = check("disks-named", {"host_filesystems": entries})
    assert [finding.key for finding in findings] == [f"host_filesystems[1].{key}"]


def test_rule_and_role_have_the_same_forms() -> None:
    variables = yaml.safe_load((ROOT / "roles" / "host" / "vars" / "main.yml").read_text())
    agree = "roles/host/vars/main.yml and fleet/stack/rules/disks.py agree"
    assert variables["_host_serial_form"] == disks.SERIAL.pattern + r"\Z", agree
    assert variables["_host_path_form"] == disks.PATH.pattern + r"\Z", agree
    assert set(variables["_host_system_folders"]) == disks.SYSTEM, agree
    assert str(preflight.NAMESPACE) in variables["_host_filesystems"], (
        "roles/host/vars/main.yml and fleet/preflight agree"
    )


def test_a_lab_needs_no_room_for_a_real_image() -> None:
    """README: 30 GB of disk."""
    assert requirements.of_machine(stack_file.read("lab", ROOT), ROLES, "glm-1", "lab")["space"] == []
