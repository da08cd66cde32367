"""From a cloud's API to a machine that can run GPU containers: real user data, the real cloud-init, real SSH, real roles.

Only the cloud itself stands in (lab/cloud); its SDK is the real one. The tests stand in the order in which a user would come by.
"""

import re

import pytest

from tests.support.cloud_stack import BARE, LAB, CloudStack


@pytest.fixture(scope="session")
def first_up(sky: CloudStack) -> str:
    """What the first `pulumi up` told."""
    done = sky.up()
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_droplet_is_reached_with_the_key_that_was_made_for_it_and_becomes_a_gpu_host(
    sky: CloudStack, first_up: str
) -> None:
    pinned = sky.state("Node")["do-1"]["outputs"]["connection"]["host_key"]
    assert sky.on("do-1", "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub") == pinned
    assert sky.on("do-1", "ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key", "and no other key"
    assert sky.state("HostKey")["do-1"]["outputs"]["public"] != pinned, "the key of the user data is used once"
    host = sky.state("Host")["do-1"]["outputs"]
    assert (host["gpus"], sky.state("Node")["do-1"]["outputs"]["connection"]["user"]) == (8, "fleet")
    assert sky.on("do-1", "systemctl is-active docker") == "active"


def test_cloud_init_let_in_one_user_and_no_root(sky: CloudStack, first_up: str) -> None:
    assert sky.on("do-1", "cloud-init status").endswith("done")
    assert sky.on("do-1", "cat /root/.ssh/authorized_keys 2>/dev/null || true") == ""
    assert sky.on("do-1", "passwd --status fleet").split()[1] == "L"
    assert "passwordauthentication no" in sky.on("do-1", "sshd -T")


def test_machines_of_two_sources_are_in_one_stack(sky: CloudStack, first_up: str) -> None:
    assert {*sky.state("Node")} == {"bare-1", "do-1"}
    assert {*sky.state("Droplet")} == {"do-1"}


def test_no_private_key_is_in_clear_in_the_state_or_in_what_was_told(sky: CloudStack, first_up: str) -> None:
    assert "PRIVATE KEY" not in first_up
    assert "PRIVATE KEY" not in sky.run("pulumi", "stack", "export", "-s", "cloud").stdout


def test_a_second_up_changes_nothing(sky: CloudStack, first_up: str) -> None:
    done = sky.up("--expect-no-changes")
    assert done.returncode == 0, done.stdout


def test_other_user_data_change_no_machine_and_are_told(sky: CloudStack, first_up: str) -> None:
    boot = sky.on("do-1", "cat /proc/sys/kernel/random/boot_id")
    sky.configure({"do-1": {}}, keys=[*sky.pool["keys"], f"{sky.pool['keys'][0].rpartition(' ')[0][:-4]}AAAA other"])
    done = sky.up()
    sky.configure({"do-1": {}})
    assert done.returncode == 0, done.stdout
    assert "do-1: compare with what it was made of: another user or other keys" in done.stdout
    assert sky.on("do-1", "cat /proc/sys/kernel/random/boot_id") == boot
    again = sky.up()
    assert again.returncode == 0, again.stdout


def test_a_machine_that_comes_up_with_another_host_key_is_refused(sky: CloudStack, first_up: str) -> None:
    sky.configure({"do-1": {}, "do-2": {"image": 666}}, release={"do-2": "to be taken out"})
    done = sky.up("--continue-on-error")
    assert done.returncode != 0
    assert "do-2: connect to fleet@" in done.stdout
    assert "another machine" in done.stdout or "host key" in done.stdout
    assert {*sky.state("Node")} == {"bare-1", "do-1"}
    sky.configure({"do-1": {}, "do-2": {"image": 666, "state": "absent"}}, release={"do-2": "to be taken out"})
    gone = sky.up()
    assert gone.returncode == 0, gone.stdout
    assert not sky.run("docker", "ps", "-aq", "--filter", f"name=^{LAB}-do-2$").stdout


def test_a_machine_that_does_not_come_up_in_time_is_told_and_the_next_up_goes_on(
    sky: CloudStack, first_up: str
) -> None:
    release = {"do-2": "to be taken out"}
    sky.configure({"do-1": {}, "do-2": {}}, release=release, wait=1)
    done = sky.up("--continue-on-error")
    assert done.returncode != 0
    assert re.search(r"error: do-2: connect to fleet@\S+:22: ", done.stdout), done.stdout
    assert ({*sky.state("Droplet")}, {*sky.state("Node")}) == ({"do-1", "do-2"}, {"bare-1", "do-1"})
    sky.configure({"do-1": {}, "do-2": {}}, release=release)
    again = sky.up()
    assert again.returncode == 0, again.stdout
    assert "do-2" in sky.state("Node")
    sky.configure({"do-1": {}, "do-2": {"state": "absent"}}, release=release)
    assert sky.up().returncode == 0


@pytest.mark.exhaustive  # three minutes; tests/preview/test_cloud.py has what the engine does then, in seconds
def test_a_droplet_that_is_made_anew_becomes_a_gpu_host_again(sky: CloudStack, first_up: str) -> None:
    # It has the address and the host key of the one before it: only that it was made anew tells them apart.
    release = {"do-1": "another image"}
    sky.configure({"do-1": {}}, release=release)
    assert sky.up().returncode == 0
    before = sky.on("do-1", "cat /etc/machine-id")
    done = sky.up("--replace", "**:Droplet::do-1")
    assert done.returncode == 0, done.stdout
    assert sky.on("do-1", "cat /etc/machine-id") != before
    assert sky.on("do-1", "systemctl is-active docker") == "active"
    sky.configure({"do-1": {}})
    assert sky.up().returncode == 0


@pytest.mark.exhaustive  # the roles do there what they do on every Ubuntu 24.04
def test_a_droplet_serves_and_sees(sky: CloudStack, first_up: str) -> None:
    done = sky.up(without=BARE)
    assert done.returncode == 0, done.stdout
    asked = sky.run("fleet", "probe", "-s", "cloud", "do-1/glm-0")
    assert asked.returncode == 0, asked.stdout
    assert "13/13" in sky.run("fleet", "show", "-s", "cloud").stdout
