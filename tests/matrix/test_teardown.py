"""Claims about the teardown: it removes what our runs made, restores the state before them, and reports what remains.

On each system with the real playbooks, through the provider (apply, then delete); on one the whole road with `pulumi destroy`, for a stack
whose source is ssh: its machine stays. OTHERWISE has the differences that may remain, with their reasons.
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
from tests.support.environment import expect_failure, expect_success
from tests.support.role_node import COMMON, SERVED

CELLS = [
    pytest.param(system, marks=() if usual else pytest.mark.exhaustive, id=system)
    for system, _, usual in scenario_table.cells("test_teardown.py")
]
# Before our runs: an administrator's options of a future Docker daemon, and a pin of theirs under the name in AMD's guide.
PREPARE = """
sed -i 's/^{/{"debug": false, "max-concurrent-downloads": 5, /' /etc/docker/daemon.json && chmod 0640 /etc/docker/daemon.json
printf 'Package: nothing\\nPin: release o=nobody\\nPin-Priority: -1\\n' > /etc/apt/preferences.d/rocm && chown nobody /etc/apt/preferences.d/rocm
sysctl -q -w net.core.somaxconn=4000
"""
# A setting of the network, which each node has for itself: a setting of the kernel would change for all labs.
SYSCTLS = {"host_sysctls": {"net.core.somaxconn": 4096}}


# Differences that may remain, by kind, in the form of machine_snapshot.changed.
OTHERWISE = {
    "groups": r"\+ render:",  # of udev, with the lab's GPUs: of no package
    "sysctls": r"[+-] net\.ipv4\.(ip_forward|conf\.(all|default|eth0|lo)\.forwarding) ",  # reported, with the next two: Docker ran
    "links": r"\+  docker0",
    "firewall": r"\+ table ",
    "left of Docker": r"\+ /run/",  # in memory, as the next
    # The second half: units that systemd runs once after a change of /usr, at a node's first boot.
    "active units": r"\+ run-docker-netns-.*\.mount|- (ldconfig|systemd-(journal-catalog-update|sysusers|update-done))\.service",
}
UNTIL_REBOOT = (
    r"until the next reboot Docker's bridge docker0, its firewall rules and net\.ipv4\.ip_forward",
    r"until the next reboot the kernel runs with iommu=pt pci=[a-z=,]+",
)


@contextlib.contextmanager
def used_machine(lab: labs.Lab, system: str) -> Iterator[ssh.Target]:
    """Yield a machine with an administrator's own settings."""
    node = labs.bare(lab.name, "bare", system, lab.folder)
    try:
        with ssh.connect(node) as connection:
            assert connection.run(PREPARE).rc == 0
        yield node
    finally:
        machine.remove(lab.name, "bare")


def unexplained(
    before: machine_snapshot.Look, after: machine_snapshot.Look, otherwise: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the differences, less those that may remain."""
    kinds = machine_snapshot.changed(before, after).items()
    left = {kind: [line for line in lines if not re.match(otherwise.get(kind, "$^"), line)] for kind, lines in kinds}
    return {kind: lines for kind, lines in left.items() if lines}


def all_match(lines: Sequence[str], *patterns: str) -> bool:
    """Return whether there are as many lines as patterns, and each pattern matches one."""
    return len(lines) == len(patterns) and all(any(re.fullmatch(regex, line) for line in lines) for regex in patterns)


@pytest.mark.parametrize("system", CELLS)
def test_a_delete_restores_the_host(
    lab: labs.Lab, system: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without an image and a replica; with every purge."""
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)
    roles = role_vars.load(base.ROOT / "roles")
    purge, states, lines = ("weights", "driver"), dict[str, Any](), list[str]()
    stack = stack_file.read("lab", base.ROOT)
    # As a user would who knows that AMD does not list the system yet.
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
            states[kind] = resource.apply(request(kind, lines), inputs, None)
        during = machine_snapshot.changed(before, machine_snapshot.at(node))
        for kind in reversed(kinds):
            kinds[kind].delete(request(kind, lines), states[kind])
        after = machine_snapshot.at(node)
    assert any(owner.MARKER in line for line in during["names"])
    assert {"names", "contents", "next boot", "packages", "unit files", "groups", "sysctls"} <= set(during)
    assert unexplained(before, after, OTHERWISE) == {}
    remains = [line.removeprefix("remains: ") for line in lines if line.startswith("remains: ")]
    assert all_match(remains, *UNTIL_REBOOT), remains


def request(kind: str, lines: list[str]) -> Request:
    urn = f"urn:pulumi:test::glm-fleet::fleet:index:{kind}::bare"
    return Request(urn, lambda text, _ephemeral: lines.append(text), threading.Event())


def ssh_stack(road: Road, lab: labs.Lab, node: ssh.Target) -> None:
    """Turn the lab's stack into one without the lab: an existing machine, and the site's mirrors."""
    file = road.home / "stacks" / f"Pulumi.{STACK}.yaml"
    config = yaml.safe_load(file.read_text())
    reach = {name: getattr(node, name) for name in ("address", "port", "user", "host_key", "identity")}
    config["config"]["glm-fleet:nodes"] = {"source": "ssh", "machines": {"bare": {**reach, "gpus": labs.GPUS}}}
    config["config"]["glm-fleet:vars"] |= {**lab.vars, **SYSCTLS}
    del config["config"]["glm-fleet:gateway"]
    file.write_text(yaml.safe_dump(config))
    expect_success(road.run("bootstrap/stack.sh", STACK))


@pytest.mark.exhaustive
def test_a_destroy_restores_the_machine_and_leaves_it_on(lab: labs.Lab, tmp_path: Path) -> None:
    """The whole road, to a replica that sees; weights and driver remain."""
    road = Road(tmp_path / "glm-fleet", lab=lab.name)
    with used_machine(lab, "debian-12") as node:
        before = machine_snapshot.at(node)
        ssh_stack(road, lab, node)
        expect_success(road.pulumi("up", "--yes", "--skip-preview"))
        assert "protected" in expect_failure(road.destroy())
        road.set('glm-fleet:release["bare"]', "its lease ends")
        expect_success(road.pulumi("up", "--yes", "--skip-preview"))
        boot = road.boot_id("bare")
        output = expect_success(road.destroy())
        assert road.boot_id("bare") == boot, "the machine stays on"
        after = machine_snapshot.at(node)
    remains = re.findall(r"remains: (.*)", output.partition("Diagnostics:")[2])
    model = r"the model: /srv/models/lab/GLM-4\.6V/[0-9a-f]{40} \([0-9.]+ MB\); add weights to `glm-fleet:purge` to remove it"
    driver = r"the driver: amdgpu-dkms [0-9:.-]+; add driver to `glm-fleet:purge` to remove it"
    assert all_match(remains, model, driver, *UNTIL_REBOOT), output
    model_files = {"names": r"\+ /srv/models", "contents": r"\+ [0-9a-f]{64}  /srv/models/"}
    otherwise = {**OTHERWISE, **model_files, "packages": r"\+ ii +amdgpu-dkms "}
    assert unexplained(before, after, otherwise) == {}
