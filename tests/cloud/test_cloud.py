"""From a cloud's API to a machine that can run GPU containers: real user data, the real cloud-init, real SSH, real roles.

Only the cloud itself is a stand-in (lab/cloud); its SDK is the real one. The tests have the order of a user's steps.
"""

import re

import pytest

from tests.support.cloud_stack import BARE, LAB, CloudStack
from tests.support.environment import expect_failure, expect_success


@pytest.fixture(scope="session")
def first_up(sky: CloudStack) -> str:
    """The output of the first `pulumi up`."""
    return expect_success(sky.up())


def test_a_droplet_answers_with_its_own_host_key_and_becomes_a_gpu_host(sky: CloudStack, first_up: str) -> None:
    pinned = sky.state("Node")["do-1"]["outputs"]["connection"]["host_key"]
    assert sky.on("do-1", "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub") == pinned
    assert sky.on("do-1", "ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key", "and no other key"
    assert sky.state("HostKey")["do-1"]["outputs"]["public"] != pinned, "the key of the user data is used once"
    host = sky.state("Host")["do-1"]["outputs"]
    assert (host["gpus"], sky.state("Node")["do-1"]["outputs"]["connection"]["user"]) == (8, "fleet")
    assert sky.on("do-1", "systemctl is-active docker") == "active"


def test_cloud_init_admits_one_user_and_not_root(sky: CloudStack, first_up: str) -> None:
    assert sky.on("do-1", "cloud-init status").endswith("done")
    assert sky.on("do-1", "cat /root/.ssh/authorized_keys 2>/dev/null || true") == ""
    assert sky.on("do-1", "passwd --status fleet").split()[1] == "L"
    assert "passwordauthentication no" in sky.on("do-1", "sshd -T")


def test_machines_of_two_sources_are_in_one_stack(sky: CloudStack, first_up: str) -> None:
    assert {*sky.state("Node")} == {"bare-1", "do-1"}
    assert {*sky.state("Droplet")} == {"do-1"}


def test_no_private_key_is_in_clear_in_the_state_or_the_output(sky: CloudStack, first_up: str) -> None:
    assert "PRIVATE KEY" not in first_up
    assert "PRIVATE KEY" not in sky.run("pulumi", "stack", "export", "-s", "cloud").stdout


def test_a_second_up_changes_nothing(sky: CloudStack, first_up: str) -> None:
    expect_success(sky.up("--expect-no-changes"))


def test_other_user_data_are_reported_and_change_no_machine(sky: CloudStack, first_up: str) -> None:
    boot = sky.on("do-1", "cat /proc/sys/kernel/random/boot_id")
    sky.configure({"do-1": {}}, keys=[*sky.pool["keys"], f"{sky.pool['keys'][0].rpartition(' ')[0][:-4]}AAAA other"])
    run = sky.up()
    sky.configure({"do-1": {}})
    assert "do-1: compare with what it was made of: another user or other keys" in expect_success(run)
    assert sky.on("do-1", "cat /proc/sys/kernel/random/boot_id") == boot
    expect_success(sky.up())


def test_a_machine_that_boots_with_another_host_key_is_refused(sky: CloudStack, first_up: str) -> None:
    sky.configure({"do-1": {}, "do-2": {"image": 666}}, release={"do-2": "to be taken out"})
    output = expect_failure(sky.up("--continue-on-error"))
    assert "do-2: connect to fleet@" in output
    assert "another machine" in output or "host key" in output
    assert {*sky.state("Node")} == {"bare-1", "do-1"}
    sky.configure({"do-1": {}, "do-2": {"image": 666, "state": "absent"}}, release={"do-2": "to be taken out"})
    expect_success(sky.up())
    assert not sky.run("docker", "ps", "-aq", "--filter", f"name=^{LAB}-do-2$").stdout


def test_a_machine_that_boots_too_late_is_reported_and_the_next_up_continues(sky: CloudStack, first_up: str) -> None:
    release = {"do-2": "to be taken out"}
    sky.configure({"do-1": {}, "do-2": {}}, release=release, wait=1)
    output = expect_failure(sky.up("--continue-on-error"))
    assert re.search(r"error: do-2: connect to fleet@\S+:22: ", output), output
    assert ({*sky.state("Droplet")}, {*sky.state("Node")}) == ({"do-1", "do-2"}, {"bare-1", "do-1"})
    sky.configure({"do-1": {}, "do-2": {}}, release=release)
    expect_success(sky.up())
    assert "do-2" in sky.state("Node")
    sky.configure({"do-1": {}, "do-2": {"state": "absent"}}, release=release)
    expect_success(sky.up())


@pytest.mark.exhaustive  # three minutes; tests/preview/test_cloud.py has the Pulumi engine's part, in seconds
def test_a_replaced_droplet_becomes_a_gpu_host_again(sky: CloudStack, first_up: str) -> None:
    # It has the address and the host key of the old one: only its replacement distinguishes them.
    release = {"do-1": "another image"}
    sky.configure({"do-1": {}}, release=release)
    expect_success(sky.up())
    before = sky.on("do-1", "cat /etc/machine-id")
    expect_success(sky.up("--replace", "**:Droplet::do-1"))
    assert sky.on("do-1", "cat /etc/machine-id") != before
    assert sky.on("do-1", "systemctl is-active docker") == "active"
    sky.configure({"do-1": {}})
    expect_success(sky.up())


@pytest.mark.exhaustive  # as the roles do on every Ubuntu 24.04
def test_a_droplet_serves_and_sees(sky: CloudStack, first_up: str) -> None:
    expect_success(sky.up(without=BARE))
    expect_success(sky.run("fleet", "probe", "-s", "cloud", "do-1/glm-0"))
    assert "13/13" in sky.run("fleet", "show", "-s", "cloud").stdout
