"""Weights and image that do not fit the disk which the plan names are refused before a machine is made."""

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


def found(disk: rules.Disk | None, **values: Any) -> list[str]:
    """Return what the rule sees on a machine with the reference recipe's BF16 model."""
    told = {"weights_dir": "/srv/models", "host_filesystems": [], **bf16(), **values}
    plan = rules.MachinePlan(told, 8, disk)
    return [one.seen for rule in rules.RULES if rule.name == "disk-fits" for one in rule.check(plan)]


@pytest.mark.parametrize(
    ("claim", "disk", "values", "seen"),
    [
        (
            "what nobody names is as large as the image",
            rules.Disk(50, False),
            {},
            [
                "the disk is as large as the image, about 50 GB, and must hold 215 GB for the weights and 70 GB for the serving image (estimate)"
            ],
        ),
        (
            "a named one is too small by a gigabyte",
            rules.Disk(285, True),
            {},
            ["the disk is 285 GB and must hold 215 GB for the weights and 70 GB for the serving image (estimate)"],
        ),
        ("and fits with one more", rules.Disk(286, True), {}, []),
        ("of a disk that nobody knows nothing is said", None, {}, []),
        ("weights on a disk of their own", rules.Disk(100, True), {"host_filesystems": [DISK]}, []),
        (
            "beside whose name another folder begins alike",
            rules.Disk(100, True),
            {"host_filesystems": [{**DISK, "path": "/srv/mod"}]},
            ["the disk is 100 GB and must hold 215 GB for the weights and 70 GB for the serving image (estimate)"],
        ),
        (
            "the image stays on the system's disk",
            rules.Disk(50, False),
            {"host_filesystems": [DISK]},
            ["the disk is as large as the image, about 50 GB, and must hold 70 GB for the serving image (estimate)"],
        ),
        (
            "but where the daemon has its data elsewhere",
            rules.Disk(50, False),
            {"host_filesystems": [DISK], "docker_daemon_options": {"data-root": "/srv/docker"}},
            [],
        ),
        (
            "of a model that is not known the image counts",
            rules.Disk(50, False),
            {"weights_repository": "own/model"},
            ["the disk is as large as the image, about 50 GB, and must hold 70 GB for the serving image (estimate)"],
        ),
    ],
)
def test_a_disk_holds_what_lies_on_it(
    claim: str, disk: rules.Disk | None, values: dict[str, Any], seen: list[str]
) -> None:
    assert found(disk, **values) == seen


def oci(disk_gb: int | None = None, machine: int | None = None) -> settings.Settings:
    """Return the stack prod on two instances of OCI."""
    told = yaml.safe_load((ROOT / "stacks" / "Pulumi.prod.yaml").read_text())["config"]
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
    return settings.read({"nodes": pool, "vars": told["glm-fleet:vars"]}, "stacks/Pulumi.prod.yaml")


def refused(found: settings.Settings) -> list[str]:
    file = "stacks/Pulumi.prod.yaml"
    return [str(one) for one in validate.validate(found, ROLES, file, datetime.date(2026, 11, 29)).mistakes]


def test_a_pool_without_disk_gb_is_refused_once_for_all_of_its_machines() -> None:
    (message,) = refused(oci())
    assert message == (GOLDEN / "no-disk-gb.txt").read_text().rstrip("\n")
    assert refused(oci(1024)) == []


def test_a_machine_that_has_less_than_its_pool_is_named() -> None:
    (message,) = refused(oci(1024, 200))
    assert message.startswith(
        "stacks/Pulumi.prod.yaml: nodes.machines.prod-2.disk_gb: 200: the disk is 200 GB and must hold"
    )


def test_the_preflight_asks_for_the_same_room() -> None:
    found = oci(1024)
    revision = found.vars["weights_revision"]
    assert requirements.of_machine(found, ROLES, "prod-1", "glm-fleet/prod")["space"] == [
        {
            "path": "/srv/models",
            "bytes": 215_400_000_000,
            "what": "the weights",
            "filled": f"/srv/models/zai-org/GLM-4.6V/{revision}/manifest.json",
        },
        {"path": "/var/lib/docker", "bytes": 70_000_000_000, "what": "the serving image (estimate)", "filled": ""},
    ]


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({"serial": "/dev/nvme0n1"}, "host_filesystems[1].serial"),
        ({"serial": "S 1 2 3"}, "host_filesystems[1].serial"),
        ({"serial": ""}, "host_filesystems[1].serial"),
        ({"serial": DISK["serial"]}, "host_filesystems[1].serial"),
        ({"path": "srv"}, "host_filesystems[1].path"),
        ({"path": "/"}, "host_filesystems[1].path"),
        ({"path": "/data/../etc"}, "host_filesystems[1].path"),
        ({"path": "/var/lib"}, "host_filesystems[1].path"),
        ({"path": "/data/"}, "host_filesystems[1].path"),
        ({"path": "/srv"}, "host_filesystems[1].path"),
    ],
)
def test_a_disk_that_is_not_named_by_its_serial_is_refused(entry: dict[str, str], key: str) -> None:
    plan = rules.MachinePlan(
        {"host_filesystems": [DISK, {"serial": "S2SN", "path": "/data", "type": "xfs", **entry}]}, 8
    )
    assert [one.key for rule in rules.RULES if rule.name == "disks-named" for one in rule.check(plan)] == [key]


def test_rule_and_role_have_the_same_forms() -> None:
    told = yaml.safe_load((ROOT / "roles" / "host" / "vars" / "main.yml").read_text())
    agree = "roles/host/vars/main.yml and fleet/stack/rules/disks.py agree"
    assert told["_host_serial_form"] == disks.SERIAL.pattern + r"\Z", agree
    assert told["_host_path_form"] == disks.PATH.pattern + r"\Z", agree
    assert set(told["_host_system_folders"]) == disks.SYSTEM, agree
    assert str(preflight.NAMESPACE) in told["_host_filesystems"], "roles/host/vars/main.yml and fleet/preflight agree"


def test_a_lab_needs_no_room_for_a_real_image() -> None:
    """README: 30 GB of disk."""
    asked = requirements.of_machine(stack_file.read("lab", ROOT), ROLES, "glm-1", "lab")
    assert asked["space"] == []
