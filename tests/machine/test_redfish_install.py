"""A machine is installed over its BMC, once for a nonce, whatever comes between: against sushy-emulator (tests/support/redfish_machine.py).

What goes wrong ends in one message each: golden/redfish/.
"""

import dataclasses
import re
import subprocess
import threading
import time
from concurrent import futures
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.bare_metal import install, installer_image, seed
from tests.support.redfish_machine import GOLDEN, Machine, golden, told

pytestmark = pytest.mark.slow
PATIENCE = 60


def public(bare: Machine, name: str) -> str:
    return (bare.folder / f"{name}.pub").read_text().strip()


def job(bare: Machine, **changed: object) -> install.Job:
    """Return an installation of the machine with a nonce, short bounds and everything right."""
    target = ssh.Target("prod-3", "127.0.0.1", bare.ssh_port, "root", public(bare, "pin"), str(bare.folder / "user"))
    made = seed.Seed(
        "ubuntu",
        "prod-3",
        "one",
        "root",
        [public(bare, "user")],
        public(bare, "pin"),
        (bare.folder / "pin").read_text(),
    )
    right = install.Job(
        bare.access, target, made, bare.installer["url"], bare.installer["sha256"], bare.serve, within=20, boot=10
    )
    return dataclasses.replace(right, **changed)


class Run:
    """An installation in a thread of its own, with what it notes."""

    def __init__(self, job: install.Job, cancelled: threading.Event, stage: str = "") -> None:
        self.notes: list[str] = []
        self._noted = threading.Condition()
        self.installation = install.Installation(job, stage, self._note, cancelled)
        self._pool = futures.ThreadPoolExecutor(1)
        self._running = self._pool.submit(self.installation.run)
        self._pool.shutdown(wait=False)

    def _note(self, text: str) -> None:
        with self._noted:
            self.notes.append(text)
            self._noted.notify_all()

    def hear(self, text: str) -> None:
        with self._noted:
            assert self._noted.wait_for(lambda: any(text in one for one in self.notes), PATIENCE), self.notes

    def end(self) -> None:
        self._running.result(PATIENCE)


def test_a_machine_is_installed_and_answers_with_the_pinned_key(bare: Machine, cancelled: threading.Event) -> None:
    run = Run(job(bare), cancelled)
    run.hear("powered on; waits for the installer")
    run.end()
    assert (bare.wiped, bare.started, bare.media()) == (1, ["Cd", "Hdd"], [])
    assert run.installation.stage == "installed"
    with ssh.connect(job(bare).target) as connection:
        assert connection.run("cat /etc/glm-fleet-installed").stdout == "one\n"


def test_the_same_nonce_twice_does_nothing_whatever_the_state_has_of_it(
    bare: Machine, cancelled: threading.Event
) -> None:
    Run(job(bare), cancelled).end()
    bare.told.clear()
    Run(job(bare), cancelled).end()
    assert (bare.wiped, bare.told) == (1, [])


def test_another_nonce_installs_again_with_the_same_host_key(bare: Machine, cancelled: threading.Event) -> None:
    Run(job(bare), cancelled).end()
    Run(job(bare, seed=dataclasses.replace(job(bare).seed, nonce="two")), cancelled).end()
    assert bare.wiped == 2


def test_an_image_that_is_not_the_pinned_one_wipes_nothing(bare: Machine, cancelled: threading.Event) -> None:
    with pytest.raises(errors.FleetError) as caught:
        Run(job(bare, sha256="ab" * 32), cancelled).end()
    golden("an-image-that-is-not-the-pinned-one", caught.value, bare)
    assert (bare.wiped, bare.told) == (0, [])


def test_a_mirror_that_changes_the_image_after_it_was_compared_changes_nothing(
    bare: Machine, cancelled: threading.Event
) -> None:
    right = bare.mirror.image
    installation = job(bare)
    installer_image.fetch("prod-3", installation.installer, installation.sha256, lambda _: None, cancelled)
    bare.mirror.image = b"another installer"
    bare.seconds = 3
    run = Run(installation, cancelled)
    run.hear("waits for the installer")
    assert bare.inserted("Cd").read_bytes() == right
    run.end()


def test_a_kept_image_that_was_changed_on_the_disk_is_fetched_again(bare: Machine, cancelled: threading.Event) -> None:
    ask = (bare.mirror.url, bare.installer["sha256"], lambda _: None, cancelled)
    kept = installer_image.fetch("prod-3", *ask)
    kept.write_bytes(b"changed by somebody")
    installer_image._verified.clear()  # as in another process
    assert installer_image.fetch("prod-3", *ask).read_bytes() == bare.mirror.image


def test_nothing_is_kept_of_an_image_that_is_not_the_pinned_one(bare: Machine, cancelled: threading.Event) -> None:
    with pytest.raises(errors.FleetError):
        installer_image.fetch("prod-3", bare.mirror.url, "ab" * 32, lambda _: None, cancelled)
    assert list(installer_image._folder().iterdir()) == []


def test_an_address_that_cannot_be_served_at_wipes_nothing(bare: Machine, cancelled: threading.Event) -> None:
    with pytest.raises(errors.FleetError) as caught:
        Run(job(bare, serve="192.0.2.1:8090"), cancelled).end()
    golden("an-address-that-cannot-be-served-at", caught.value, bare)
    assert (bare.wiped, bare.told) == (0, [])


def test_a_bmc_that_starts_anew_while_the_installer_works_is_waited_for(
    bare: Machine, cancelled: threading.Event
) -> None:
    bare.seconds = 3
    run = Run(job(bare), cancelled)
    run.hear("waits for the installer")
    bare.shut()
    run.hear("its BMC does not answer")
    bare.open()
    run.end()
    assert bare.wiped == 1


def test_what_a_cancel_left_is_gone_on_with_and_wipes_nothing_more(bare: Machine, cancelled: threading.Event) -> None:
    bare.seconds = 3
    run = Run(job(bare), cancelled)
    run.hear("waits for the installer")
    began = time.monotonic()
    cancelled.set()
    with pytest.raises(errors.Cancelled):
        run.end()
    assert time.monotonic() - began < 10
    assert run.installation.stage == "installing"
    Run(job(bare), threading.Event(), run.installation.stage).end()
    assert (bare.wiped, bare.started) == (1, ["Cd", "Hdd"])


def test_what_a_killed_run_left_is_seen_by_its_media_and_wipes_nothing_more(
    bare: Machine, cancelled: threading.Event
) -> None:
    bare.seconds = 3
    run = Run(job(bare), cancelled)
    run.hear("waits for the installer")
    cancelled.set()
    with pytest.raises(errors.Cancelled):
        run.end()
    Run(job(bare), threading.Event(), stage="").end()  # nobody remembers it
    assert bare.wiped == 1


def test_an_installer_that_never_ends_is_given_up(bare: Machine, cancelled: threading.Event) -> None:
    bare.works = False
    run = Run(job(bare, within=2), cancelled)
    with pytest.raises(errors.InstallFailed) as caught:
        run.end()
    golden("an-installer-that-never-ends", caught.value, bare)
    assert run.installation.stage == "installing"


def test_a_machine_that_never_comes_up_is_given_up_and_not_wiped_again(
    bare: Machine, cancelled: threading.Event
) -> None:
    bare.answers = False
    run = Run(job(bare, boot=2), cancelled)
    with pytest.raises(errors.InstallFailed) as caught:
        run.end()
    golden("a-machine-that-never-comes-up", caught.value, bare)
    again = Run(job(bare, boot=1), threading.Event(), run.installation.stage)
    with pytest.raises(errors.InstallFailed):
        again.end()
    assert (run.installation.stage, bare.wiped) == ("installed", 1)


def test_a_machine_that_comes_up_with_another_host_key_is_not_ours(bare: Machine, cancelled: threading.Event) -> None:
    bare.host = another(bare)
    with pytest.raises(errors.HostKeyMismatch) as caught:
        Run(job(bare), cancelled).end()
    text = re.sub(r"SHA256:\S+", "SHA256:…", told(caught.value, bare))
    assert text == (GOLDEN / "another-host-key.txt").read_text()


def test_a_system_that_was_there_before_is_wiped_only_when_it_is_released(
    bare: Machine, cancelled: threading.Event
) -> None:
    Run(job(bare), cancelled).end()
    ours = dataclasses.replace(job(bare).target, host_key=public(bare, "user"))  # as if another key of ours were pinned
    after = dataclasses.replace(job(bare).seed, nonce="two")
    with pytest.raises(errors.InstallFailed) as caught:
        Run(job(bare, target=ours, seed=after), cancelled).end()
    golden("a-system-that-is-not-ours", caught.value, bare)
    assert bare.wiped == 1
    Run(job(bare, target=job(bare).target, seed=after, released=True), cancelled).end()
    assert bare.wiped == 2


def another(bare: Machine) -> Path:
    """Return a folder with a host key that is not the pinned one."""
    folder = bare.folder / "another"
    folder.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"], check=True)
    (folder / "user").write_bytes((bare.folder / "user").read_bytes())
    (folder / "user").chmod(0o600)
    return folder
