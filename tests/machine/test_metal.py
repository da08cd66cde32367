"""From a bare disk to SSH with the pinned host key, over virtual media: a machine of QEMU, whose firmware and kernel really boot.

Its processor is emulated: minutes. The BMC is sushy-emulator; tests/support/qemu_machine.py makes the installer and the system.
"""

import dataclasses
import threading
import time
from collections.abc import Iterator

import pytest

from fleet import errors, ssh
from fleet.bare_metal import install, seed
from tests.support.qemu_machine import Metal, image
from tests.support.redfish_machine import machine

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.timeout(2400),
    pytest.mark.needs("root", "apt-get"),  # makes a Debian system
]


@pytest.fixture(scope="module")
def metal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metal]:
    """A machine that is switched off, its disk bare; its site has an image of an installer."""
    installer = image(tmp_path_factory.mktemp("image"))
    with machine(tmp_path_factory.mktemp("metal"), Metal) as metal:
        assert isinstance(metal, Metal)
        metal.mirror.image = installer.read_bytes()
        yield metal


def job(metal: Metal, nonce: str) -> install.Job:
    public = {name: (metal.folder / f"{name}.pub").read_text().strip() for name in ("user", "pin")}
    target = ssh.Target("prod-3", "127.0.0.1", metal.ssh_port, "root", public["pin"], str(metal.folder / "user"))
    private = (metal.folder / "pin").read_text()
    new_seed = seed.Seed("ubuntu", "prod-3", nonce, "root", [public["user"]], public["pin"], private)
    site = (metal.installer["url"], metal.installer["sha256"], metal.serve)
    return install.Job(metal.access, target, new_seed, *site, within=1200, boot=600)


def test_an_installed_bare_disk_boots_and_answers_with_the_pinned_key(
    metal: Metal, record_property: pytest.Function
) -> None:
    start = time.monotonic()
    install.Installation(job(metal, "one"), "", print, threading.Event()).run()
    seconds = time.monotonic() - start
    record_property("seconds", round(seconds))
    print(f"\nfrom a bare disk to SSH: {seconds:.0f} s")
    command = "cat /etc/glm-fleet-installed /etc/hostname; findmnt -no SOURCE /; ls /etc/ssh/ssh_host_*"
    with ssh.connect(job(metal, "one").target) as connection:
        lines = connection.run(command).stdout.splitlines()
    keys = ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub"]
    assert lines == ["one", "prod-3", "/dev/vda2", *keys]
    assert (metal.boots, metal.wiped, metal.media()) == (["Cd", "Hdd"], 1, [])


def test_the_same_nonce_does_nothing_to_it(metal: Metal) -> None:
    before = metal.bare_disk.stat().st_ino, metal.boots[:]
    install.Installation(job(metal, "one"), "", print, threading.Event()).run()
    assert (metal.bare_disk.stat().st_ino, metal.boots) == before


def test_another_key_than_the_installed_one_is_refused(metal: Metal) -> None:
    stranger = dataclasses.replace(job(metal, "one").target, host_key=(metal.folder / "user.pub").read_text().strip())
    with pytest.raises(errors.HostKeyMismatch), ssh.connect(stranger):
        pass
