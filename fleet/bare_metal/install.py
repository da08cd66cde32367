"""A machine installed over its BMC: from the site's installer and our seed to SSH with the pinned key.

What was reached is read from the machine and its BMC, and not remembered alone: who begins again goes on there. One nonce wipes a machine
once. Needs bmc, shelf, medium and ssh. Called by the provider's BareMetal.
"""

import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet import errors, ssh
from fleet.bare_metal import bmc, installer_image, seed, seed_server

# Between two looks at a level, in seconds: the first and the longest.
FIRST, LONGEST = 0.5, 10.0
# Seconds that a machine may take to switch off or on; that a start from its disk may take; that its mark may come after its SSH.
SWITCH, BOOT, SETTLE = 120.0, 1800.0, 120.0

# What an installation has reached: `` nothing was touched, `installing` the installer was started, `installed` it has ended.
INSTALLING, INSTALLED = "installing", "installed"


@dataclass(frozen=True)
class Job:
    """One installation: whose BMC, what it should answer as, from what, and for how long the installer may work.

    `serve` is the ADDRESS:PORT of this machine at which the BMC gets installer and seed, `certificate` a file with certificate and key by
    which that is HTTPS ("": HTTP). `final_key`: what the machine shows once it was taken ("": the target's). `released`: a machine that answers SSH with another key than the pinned one may be wiped.
    """

    access: bmc.Access
    target: ssh.Target
    seed: seed.Seed
    installer: str
    sha256: str
    serve: str
    final_key: str = ""
    certificate: str = ""
    within: float = 3600.0
    boot: float = BOOT
    released: bool = False

    @property
    def path(self) -> str:
        """The folder in which installer and seed are served: nobody guesses it, and a second try finds it again."""
        secret = f"{self.seed.private} {self.seed.name} {self.seed.nonce}".encode()
        return f"/{hashlib.sha256(secret).hexdigest()}"

    @property
    def url(self) -> str:
        """The same as the BMC asks for it."""
        return f"{'https' if self.certificate else 'http'}://{self.serve}{self.path}"

    def failed(self, doing: str, seen: str, wanted: str, next: str) -> errors.InstallFailed:
        """Return an error of this installation."""
        return errors.InstallFailed(node=self.access.node, doing=doing, seen=seen, wanted=wanted, next=next)


class Installation:
    """One run of a job. `stage` is what it has reached, and is kept by who calls: the next run begins with it."""

    def __init__(self, job: Job, stage: str, note: Callable[[str], None], cancelled: threading.Event) -> None:
        self._job, self.stage, self._note, self._cancelled = job, stage, note, cancelled

    def run(self) -> None:
        """Install, or go on with it; return when the machine answers with the pinned key and bears this installation's mark.

        Raises InstallFailed, HostKeyMismatch, Unreachable, BmcFailed, Cancelled. A machine that bears the mark already is left alone.
        """
        if self._done():
            self.stage = INSTALLED
            return
        with bmc.reach(self._job.access, self._cancelled) as machine:
            if self.stage != INSTALLED:
                self._install(machine)
            machine.turn(True)
        self._answers()

    def _install(self, machine: bmc.Bmc) -> None:
        job = self._job
        seeds = {suffix: f"{job.url}/seed.{suffix}" for suffix in ("iso", "img")}
        if set(seeds.values()) & set(machine.media()):
            self.stage = INSTALLING  # whoever began it did not come to say so
        installer = installer_image.fetch(job.access.node, job.installer, job.sha256, self._note, self._cancelled)
        image = job.seed.image()
        things: dict[str, bytes | Path] = {f"{job.path}/seed.{suffix}": image for suffix in seeds}
        things[f"{job.path}/installer.iso"] = installer
        with seed_server.serving(job.access.node, job.serve, things, job.certificate):
            if not self.stage:
                machine.turn(False)
                self._switched(machine, "Off")
                machine.boot_once("Cd")
                machine.insert(f"{job.url}/installer.iso", seeds.__getitem__)  # from now on its media say how far it is
                self.stage = INSTALLING
                machine.turn(True)
                self._switched(machine, "On")
            never = job.failed(
                f"install it from {job.installer}",
                f"still on after {_long(job.within)}",
                "an installer that switches it off at its end",
                "look at its console; `pulumi up` waits on, another `reinstall` begins anew",
            )
            self._until(machine, "Off", job.within, "powered on; waits for the installer", never)
        machine.eject()
        machine.boot_once("Hdd")
        self.stage = INSTALLED

    def _switched(self, machine: bmc.Bmc, power: str) -> None:
        """Wait until it is switched on, or off."""
        word = power.lower()
        seen = f"it is not after {_long(SWITCH)}"
        never = self._job.failed(f"switch it {word}", seen, f"power {word}", "look at its console")
        self._until(machine, power, SWITCH, f"waits until it is {word}", never)

    def _until(self, machine: bmc.Bmc, power: str, within: float, words: str, never: errors.InstallFailed) -> None:
        """Wait until its power is so; `never` is raised after that time. A BMC that does not answer may be starting anew."""
        start, pause = time.monotonic(), FIRST
        while True:
            lost: errors.BmcSilent | None = None
            try:
                if machine.power() == power:
                    return
            except errors.BmcSilent as error:
                lost = error
            passed = time.monotonic() - start
            if passed > within:
                raise lost or never
            silent = "; its BMC does not answer" if lost else ""
            self._note(f"{words}, {_spent(passed, within)}{silent}")
            if self._cancelled.wait(min(pause, max(0.05, within - passed))):
                raise errors.Cancelled(node=self._job.access.node, doing=words, seen="cancelled")
            pause = min(LONGEST, pause * 1.5)

    def _done(self) -> bool:
        """Whether it bears this installation's mark; another key than the pinned one is told, unless it is released."""
        try:
            return self._mark() == self._job.seed.nonce
        except errors.HostKeyMismatch as error:
            if self.stage or self._job.released:
                return False
            raise self._job.failed(
                f"install it from {self._job.installer}",
                "it answers SSH with a host key that is not ours: a system runs there",
                "a machine without one, or leave to wipe it",
                f"`glm-fleet:release: {{{self._job.access.node}: WHY}}` wipes it; without `reinstall` and with its host_key it is adopted",
            ) from error
        except errors.Unreachable:
            return False

    def _answers(self) -> None:
        """Wait for SSH with the pinned key, and for the mark, which the installer wrote last."""
        try:
            ssh.wait(self._job.target, self._job.boot, self._note, self._cancelled)
        except errors.HostKeyMismatch:
            raise
        except errors.Unreachable as error:
            raise self._job.failed(
                f"wait for its installed system at {self._job.target.where}",
                f"the installer has ended, and then: {error.seen}",
                f"SSH that lets us in, within {_long(self._job.boot)}",
                "look at its console; `pulumi up` waits on, another `reinstall` begins anew",
            ) from error
        deadline = time.monotonic() + min(SETTLE, self._job.boot)
        while (mark := self._mark()) != self._job.seed.nonce:
            if time.monotonic() > deadline:
                raise self._job.failed(
                    "look for the mark of its installation",
                    f"{seed.MARK} says {mark!r}" if mark else f"there is no {seed.MARK}",
                    repr(self._job.seed.nonce),
                    "look at its console: the installer may not have run; another `reinstall` begins anew",
                )
            if self._cancelled.wait(1):
                raise errors.Cancelled(node=self._job.access.node, doing="look for its mark", seen="cancelled")

    def _mark(self) -> str:
        target = self._job.target
        try:
            return self._read_mark(target)
        except errors.HostKeyMismatch:
            if not self._job.final_key:
                raise
            return self._read_mark(dataclasses.replace(target, host_key=self._job.final_key))

    @staticmethod
    def _read_mark(target: ssh.Target) -> str:
        with ssh.connect(target, 10) as connection:
            return connection.run(f"cat {seed.MARK} 2>/dev/null").stdout.strip()


def _spent(passed: float, within: float) -> str:
    return f"{passed / 60:.0f} min of {within / 60:.0f}" if within >= 120 else f"{passed:.0f} s of {within:.0f}"


def _long(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
