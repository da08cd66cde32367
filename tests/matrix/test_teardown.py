"""Claims about taking off: what our runs put on a machine goes, what was there before them is as it was, and what stays is told.

On each system with the real playbooks, by the provider's own way (apply, then delete); on one by the whole road and `pulumi destroy`,
with a stack whose source is ssh: its machine stays. What may be another afterwards is named here, with its reason.
"""

import contextlib
import datetime
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import ssh
from fleet.managed import owner
from fleet.provider import base
from fleet.provider.base import Request
from fleet.provider.node import Node
from fleet.provider.playbook import Playbook
from fleet.provider.slots import Slots
from fleet.stack import requirements, role_vars, settings, stack_file
from lab import machine
from tests.support import labs, machine_snapshot, scenario_table
from tests.support.e2e import STACK, Road
from tests.support.role_node import COMMON, SERVED

BOOT = "cat /proc/sys/kernel/random/boot_id"
CELLS = [
    pytest.param(system, marks=() if usual else pytest.mark.exhaustive, id=system)
    for system, _, usual in scenario_table.cells("test_teardown.py")
]
# Before us: the administrator's own options of an engine that is still to come, and his own pin under the name that AMD's guide uses.
PREPARED = """
sed -i 's/^{/{"debug": false, "max-concurrent-downloads": 5, /' /etc/docker/daemon.json && chmod 0640 /etc/docker/daemon.json
printf 'Package: nothing\\nPin: release o=nobody\\nPin-Priority: -1\\n' > /etc/apt/preferences.d/rocm && chown nobody /etc/apt/preferences.d/rocm
sysctl -q -w net.core.somaxconn=4000
"""
# Of the network, which each node has of its own: a setting of the kernel that all labs share would be put back for all of them.
SYSCTLS = {"host_sysctls": {"net.core.somaxconn": 4096}}


# What may be another afterwards, by kind, in the form of look.changed.
OTHERWISE = {
    "groups": r"\+ render:",  # of udev, for which the lab's GPUs stand in: of no package
    "sysctls": r"[+-] net\.ipv4\.(ip_forward|conf\.(all|default|eth0|lo)\.forwarding) ",  # told, with the next two: an engine ran
    "links": r"\+  docker0",
    "firewall": r"\+ table ",
    "left of the engine": r"\+ /run/",  # in memory, as the next
    # And what systemd runs once after /usr has changed: at a node's first boot.
    "active units": r"\+ run-docker-netns-.*\.mount|- (ldconfig|systemd-(journal-catalog-update|sysusers|update-done))\.service",
}
UNTIL_REBOOT = (
    r"until the next reboot Docker's bridge docker0, its firewall rules and net\.ipv4\.ip_forward",
    r"until the next reboot the kernel runs with iommu=pt pci=[a-z=,]+",
)


@contextlib.contextmanager
def used_machine(lab: labs.Lab, system: str) -> Iterator[ssh.Target]:
    """A machine that somebody has used before."""
    node = labs.bare(lab.name, "bare", system, lab.folder)
    try:
        with ssh.connect(node) as connection:
            assert connection.run(PREPARED).rc == 0
        yield node
    finally:
        machine.remove(lab.name, "bare")


def unexplained(
    before: machine_snapshot.Look, after: machine_snapshot.Look, otherwise: Mapping[str, str]
) -> dict[str, list[str]]:
    """What is another, less what may be."""
    kinds = machine_snapshot.changed(before, after).items()
    left = {what: [line for line in lines if not re.match(otherwise.get(what, "$^"), line)] for what, lines in kinds}
    return {what: lines for what, lines in left.items() if lines}


def all_match(lines: Sequence[str], *patterns: str) -> bool:
    """Whether each line is one of the patterns, and each pattern one of the lines."""
    return len(lines) == len(patterns) and all(any(re.fullmatch(one, line) for line in lines) for one in patterns)


@pytest.mark.parametrize("system", CELLS)
def test_a_deleted_host_is_what_it_was_before(
    lab: labs.Lab, system: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without an image and a replica; with all that may be purged."""
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)
    roles = role_vars.load(base.ROOT / "roles")
    purge, states, lines = ("weights", "driver"), dict[str, Any](), list[str]()
    stack = stack_file.read("lab", base.ROOT)
    # As a user would who knows that AMD does not list his system yet.
    tomorrow = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)
    stack.waivers["preflight-system"] = settings.WaiverForm(reason="ours", expires=tomorrow)
    wants = requirements.of_machine(stack, roles, "glm-1", "organization/glm-fleet/test")
    kinds: dict[str, base.Resource] = {
        "Node": Node(),
        "Host": Playbook("Host", ("gpus", "driver"), Slots(), purge=purge),
        "Weights": Playbook("Weights", ("path",), Slots(), purge=purge),
    }
    with used_machine(lab, system) as node:
        before = machine_snapshot.at(node)
        reach = {name: getattr(node, name) for name in ("name", "address", "port", "user", "identity", "host_key")}
        for kind, resource in kinds.items():
            inputs = {**reach, "wants": json.dumps(wants)}
            if kind != "Node":
                values = roles.variables_of(kind.lower(), {**lab.vars, **COMMON, **SERVED, **SYSCTLS})
                inputs = {"node": reach, "roles": roles.files(kind.lower()), "vars": values}
            states[kind] = resource.apply(asking(kind, lines), inputs, None)
        during = machine_snapshot.changed(before, machine_snapshot.at(node))
        for kind in reversed(kinds):
            kinds[kind].delete(asking(kind, lines), states[kind])
        after = machine_snapshot.at(node)
    assert any(owner.MARKER in line for line in during["names"])
    assert {"names", "contents", "next boot", "packages", "unit files", "groups", "sysctls"} <= set(during)
    assert unexplained(before, after, OTHERWISE) == {}
    stays = [line.removeprefix("remains: ") for line in lines if line.startswith("remains: ")]
    assert all_match(stays, *UNTIL_REBOOT), stays


def asking(kind: str, lines: list[str]) -> Request:
    urn = f"urn:pulumi:test::glm-fleet::fleet:index:{kind}::bare"
    return Request(urn, lambda text, _ephemeral: lines.append(text), threading.Event())


def ssh_stack(road: Road, lab: labs.Lab, node: ssh.Target) -> None:
    """Turn the stack of the lab into one that knows nothing of it: a machine that is there already, and the site's mirrors."""
    file = road.home / "stacks" / f"Pulumi.{STACK}.yaml"
    config = yaml.safe_load(file.read_text())
    reach = {name: getattr(node, name) for name in ("address", "port", "user", "host_key", "identity")}
    config["config"]["glm-fleet:nodes"] = {"source": "ssh", "machines": {"bare": {**reach, "gpus": labs.GPUS}}}
    config["config"]["glm-fleet:vars"] |= {**lab.vars, **SYSCTLS}
    file.write_text(yaml.safe_dump(config))
    made = road.run("bootstrap/stack.sh", STACK)
    assert made.returncode == 0, made.stdout


@pytest.mark.exhaustive
def test_a_destroyed_stack_leaves_its_machine_on_and_as_it_was(lab: labs.Lab, tmp_path: Path) -> None:
    """The whole road, to a replica that sees; weights and driver stay."""
    road = Road(tmp_path / "glm-fleet", lab=lab.name)
    with used_machine(lab, "debian-12") as node:
        before = machine_snapshot.at(node)
        ssh_stack(road, lab, node)
        up = road.pulumi("up", "--yes", "--skip-preview")
        assert up.returncode == 0, up.stdout
        refused = road.pulumi("destroy", "--yes", "--skip-preview")
        assert refused.returncode != 0 and "protected" in refused.stdout
        road.set('glm-fleet:release["bare"]', "its lease ends")
        released = road.pulumi("up", "--yes", "--skip-preview")
        assert released.returncode == 0, released.stdout
        boot = road.on("bare", BOOT)
        gone = road.pulumi("destroy", "--yes", "--skip-preview")
        assert gone.returncode == 0, gone.stdout
        assert road.on("bare", BOOT) == boot, "the machine stays on"
        after = machine_snapshot.at(node)
    stays = re.findall(r"remains: (.*)", gone.stdout.partition("Diagnostics:")[2])
    model = r"the model: /srv/models/lab/GLM-4\.6V/[0-9a-f]{40} \([0-9.]+ MB\); add weights to `glm-fleet:purge` to remove it"
    driver = r"the driver: amdgpu-dkms [0-9:.-]+; add driver to `glm-fleet:purge` to remove it"
    assert all_match(stays, model, driver, *UNTIL_REBOOT), gone.stdout
    kept = {
        "names": r"\+ /srv/models",
        "contents": r"\+ [0-9a-f]{64}  /srv/models/",
        "packages": r"\+ ii +amdgpu-dkms ",
    }
    assert unexplained(before, after, {**OTHERWISE, **kept}) == {}
