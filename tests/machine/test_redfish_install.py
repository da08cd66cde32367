"""An installation over the BMC happens once for a nonce, whatever interrupts it: against sushy-emulator (tests/support/redfish_machine.py).

Each failure ends in one message: golden/redfish/.
"""

import dataclasses
import threading
import time
from concurrent import futures
from pathlib import Path

import pytest

from fleet import errors, ssh
from fleet.bare_metal import install, installer_image, seed
from tests.support.redfish_machine import Machine, expect_golden
from tests.support.ssh_server import make_key

pytestmark = pytest.mark.slow
PATIENCE = 60


def public(bare: Machine, name: str) -> str:
    return (bare.folder / f"{name}.pub").read_text().strip()


def job(bare: Machine, **changes: object) -> install.Job:
    """Return a right installation of the machine, with a nonce, short bounds and some changes."""
    target = ssh.Target("prod-3", "127.0.0.1", bare.ssh_port, "root", public(bare, "pin"), str(bare.folder / "user"))
    keys = ([public(bare, "user")], public(bare, "pin"), (bare.folder / "pin").read_text())
    site = (bare.installer["url"], bare.installer["sha256"], bare.serve)
    right = install.Job(
        bare.access, target, seed.Seed("ubuntu", "prod-3", "one", "root", *keys), *site, within=20, boot=10
    )
    return dataclasses.replace(right, **changes)


class Run:
    """An installation in a thread of its own, with its notes."""

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
            assert self._noted.wait_for(lambda: any(text in note for note in self.notes), PATIENCE), self.notes

    def end(self) -> None:
        self._running.result(PATIENCE)


def test_a_machine_is_installed_and_answers_with_the_pinned_key(bare: Machine, cancelled: threading.Event) -> None:
    run = Run(job(bare), cancelled)
    run.hear("powered on; waits for the installer")
    run.end()
    assert (bare.wiped, bare.boots, bare.media()) == (1, ["Cd", "Hdd"], [])
    assert run.installation.stage == "installed"
    with ssh.connect(job(bare).target) as connection:
        assert connection.run("cat /etc/glm-fleet-installed").stdout == "one\n"


def test_the_same_nonce_twice_does_nothing_even_where_the_state_lost_it(
    bare: Machine, cancelled: threading.Event
) -> None:
    Run(job(bare), cancelled).end()
    bare.orders.clear()
    Run(job(bare), cancelled).end()
    assert (bare.wiped, bare.orders) == (1, [])


def test_another_nonce_installs_again_with_the_same_host_key(bare: Machine, cancelled: threading.Event) -> None:
    Run(job(bare), cancelled).end()
    Run(job(bare, seed=dataclasses.replace(job(bare).seed, nonce="two")), cancelled).end()
    assert bare.wiped == 2


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("an-image-that-is-not-the-pinned-one", {"sha256": "ab" * 32}),
        ("an-address-that-cannot-be-served-at", {"serve": "192.0.2.1:8090"}),
    ],
)
def test_an_installation_that_cannot_begin_wipes_nothing(
    bare: Machine, cancelled: threading.Event, claim: str, change: dict[str, str]
) -> None:
    with pytest.raises(errors.FleetError) as caught:
        Run(job(bare, **change), cancelled).end()
    expect_golden(claim, caught.value, bare)
    assert (bare.wiped, bare.orders) == (0, [])


def test_a_change_of_the_mirror_s_image_after_its_verification_changes_nothing(
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


def test_a_kept_image_that_somebody_changed_on_the_disk_is_fetched_again(
    bare: Machine, cancelled: threading.Event
) -> None:
    arguments = (bare.mirror.url, bare.installer["sha256"], lambda _: None, cancelled)
    installer_image.fetch("prod-3", *arguments).write_bytes(b"changed by somebody")
    installer_image._verified.clear()  # as in another process
    assert installer_image.fetch("prod-3", *arguments).read_bytes() == bare.mirror.image


def test_nothing_is_kept_of_an_image_that_is_not_the_pinned_one(bare: Machine, cancelled: threading.Event) -> None:
    with pytest.raises(errors.FleetError):
        installer_image.fetch("prod-3", bare.mirror.url, "ab" * 32, lambda _: None, cancelled)
    assert list(installer_image._folder().iterdir()) == []


def test_the_run_waits_for_a_bmc_that_restarts_while_the_installer_works(
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


@pytest.mark.parametrize("stage", ["installing", ""], ids=["cancelled", "killed, so that only the media show it"])
def test_an_interrupted_installation_continues_and_wipes_nothing_more(
    bare: Machine, cancelled: threading.Event, stage: str
) -> None:
    bare.seconds = 3
    run = Run(job(bare), cancelled)
    run.hear("waits for the installer")
    start = time.monotonic()
    cancelled.set()
    with pytest.raises(errors.Cancelled):
        run.end()
    assert time.monotonic() - start < 10
    assert run.installation.stage == "installing"
    Run(job(bare), threading.Event(), stage).end()
    assert (bare.wiped, bare.boots) == (1, ["Cd", "Hdd"])


def test_a_run_gives_up_an_installer_that_never_ends(bare: Machine, cancelled: threading.Event) -> None:
    bare.works = False
    run = Run(job(bare, within=2), cancelled)
    with pytest.raises(errors.InstallFailed) as caught:
        run.end()
    expect_golden("an-installer-that-never-ends", caught.value, bare)
    assert run.installation.stage == "installing"


def test_a_run_gives_up_a_machine_that_never_boots_and_the_next_wipes_nothing(
    bare: Machine, cancelled: threading.Event
) -> None:
    bare.answers = False
    run = Run(job(bare, boot=2), cancelled)
    with pytest.raises(errors.InstallFailed) as caught:
        run.end()
    expect_golden("a-machine-that-never-comes-up", caught.value, bare)
    again = Run(job(bare, boot=1), threading.Event(), run.installation.stage)
    with pytest.raises(errors.InstallFailed):
        again.end()
    assert (run.installation.stage, bare.wiped) == ("installed", 1)


def test_a_machine_that_boots_with_another_host_key_is_refused(bare: Machine, cancelled: threading.Event) -> None:
    bare.host = folder_with_another_host_key(bare)
    with pytest.raises(errors.HostKeyMismatch) as caught:
        Run(job(bare), cancelled).end()
    expect_golden("another-host-key", caught.value, bare)


def test_only_a_release_lets_a_run_wipe_a_system_of_others(bare: Machine, cancelled: threading.Event) -> None:
    Run(job(bare), cancelled).end()
    ours = dataclasses.replace(job(bare).target, host_key=public(bare, "user"))  # as if another key of ours were pinned
    after = dataclasses.replace(job(bare).seed, nonce="two")
    with pytest.raises(errors.InstallFailed) as caught:
        Run(job(bare, target=ours, seed=after), cancelled).end()
    expect_golden("a-system-that-is-not-ours", caught.value, bare)
    assert bare.wiped == 1
    Run(job(bare, target=job(bare).target, seed=after, released=True), cancelled).end()
    assert bare.wiped == 2


def folder_with_another_host_key(bare: Machine) -> Path:
    folder = bare.folder / "another"
    make_key(folder, "host")
    (folder / "user").write_bytes((bare.folder / "user").read_bytes())
    (folder / "user").chmod(0o600)
    return folder
