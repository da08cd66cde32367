"""Installs a machine over its BMC: from the site's installer and our seed to SSH with the pinned key.

Reads the stage of an installation from the machine and its BMC, not only from the state: a second run continues there. One nonce wipes a
machine once. Needs bmc, installer_image, seed_server, seed and ssh. Called by fleet.provider.baremetal.
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

# Seconds between two reads of the power: at first and at most.
FIRST, LONGEST = 0.5, 10.0
# Seconds that switching off or on may take; a boot from the disk; the time from SSH to the installation's mark.
SWITCH, BOOT, SETTLE = 120.0, 1800.0, 120.0

# Stages of an installation: "" (nothing was touched), `installing` (the installer was started), `installed` (it ended).
INSTALLING, INSTALLED = "installing", "installed"


@dataclass(frozen=True)
class Job:
    """One installation: the BMC, the SSH target afterwards, seed and installer. `within` and `boot` limit installer and boot in seconds.

    `serve` is the ADDRESS:PORT of this machine from which the BMC fetches installer and seed, `certificate` a file with certificate and key
    for HTTPS ("" for HTTP). `final_key` is the host key after Node has replaced the first one ("": the target's). `released`: a machine that
    answers SSH with another key than the pinned one may be wiped.
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
        """The URL path of installer and seed: a secret, and the same in a second run."""
        secret = f"{self.seed.private} {self.seed.name} {self.seed.nonce}".encode()
        return f"/{hashlib.sha256(secret).hexdigest()}"

    @property
    def url(self) -> str:
        """The URL of `path` for the BMC."""
        return f"{'https' if self.certificate else 'http'}://{self.serve}{self.path}"

    def failure(self, doing: str, seen: str, wanted: str, next: str) -> errors.InstallFailed:
        """Return an error of this installation."""
        return errors.InstallFailed(node=self.access.node, doing=doing, seen=seen, wanted=wanted, next=next)


class Installation:
    """One run of a job. The caller records `stage` and passes it to the next run."""

    def __init__(self, job: Job, stage: str, note: Callable[[str], None], cancelled: threading.Event) -> None:
        self._job, self.stage, self._note, self._cancelled = job, stage, note, cancelled

    def run(self) -> None:
        """Install, or continue; return when the machine answers with the pinned key and has this installation's mark.

        Does nothing to a machine that has the mark already. Raises InstallFailed, HostKeyMismatch, Unreachable, BmcFailed, Cancelled.
        """
        if self._is_installed():
            self.stage = INSTALLED
            return
        with bmc.reach(self._job.access, self._cancelled) as machine:
            if self.stage != INSTALLED:
                self._install(machine)
            machine.set_power(True)
        self._wait_for_mark()

    def _install(self, machine: bmc.Bmc) -> None:
        job = self._job
        seeds = {suffix: f"{job.url}/seed.{suffix}" for suffix in ("iso", "img")}
        if set(seeds.values()) & set(machine.media()):
            self.stage = INSTALLING  # an earlier run was killed before it recorded the stage
        installer = installer_image.fetch(job.access.node, job.installer, job.sha256, self._note, self._cancelled)
        image = job.seed.image()
        contents: dict[str, bytes | Path] = {f"{job.path}/seed.{suffix}": image for suffix in seeds}
        contents[f"{job.path}/installer.iso"] = installer
        with seed_server.serving(job.access.node, job.serve, contents, job.certificate):
            if not self.stage:
                machine.set_power(False)
                self._wait_for_switch(machine, "Off")
                machine.boot_once("Cd")
                machine.insert(f"{job.url}/installer.iso", seeds.__getitem__)  # from now on the media show the stage
                self.stage = INSTALLING
                machine.set_power(True)
                self._wait_for_switch(machine, "On")
            timeout = job.failure(
                f"install it from {job.installer}",
                f"still on after {_duration(job.within)}",
                "an installer that switches it off at its end",
                "look at its console; `pulumi up` continues to wait, another `reinstall` starts over",
            )
            self._wait_for_power(machine, "Off", job.within, "powered on; waits for the installer", timeout)
        machine.eject()
        machine.boot_once("Hdd")
        self.stage = INSTALLED

    def _wait_for_switch(self, machine: bmc.Bmc, power: str) -> None:
        """Wait until the machine is on, or off."""
        word = power.lower()
        seen = f"it is not after {_duration(SWITCH)}"
        timeout = self._job.failure(f"switch it {word}", seen, f"power {word}", "look at its console")
        self._wait_for_power(machine, power, SWITCH, f"waits until it is {word}", timeout)

    def _wait_for_power(
        self, machine: bmc.Bmc, power: str, within: float, text: str, timeout: errors.InstallFailed
    ) -> None:
        """Wait for a power state; raise `timeout` after `within` seconds. A BMC that does not answer may be restarting: wait for it, too."""
        start, pause = time.monotonic(), FIRST
        while True:
            silence: errors.BmcSilent | None = None
            try:
                if machine.power() == power:
                    return
            except errors.BmcSilent as error:
                silence = error
            passed = time.monotonic() - start
            if passed > within:
                raise silence or timeout
            suffix = "; its BMC does not answer" if silence else ""
            self._note(f"{text}, {_elapsed(passed, within)}{suffix}")
            if self._cancelled.wait(min(pause, max(0.05, within - passed))):
                raise errors.Cancelled(node=self._job.access.node, doing=text, seen="cancelled")
            pause = min(LONGEST, pause * 1.5)

    def _is_installed(self) -> bool:
        """Return whether the machine has this installation's mark. Raises InstallFailed for a foreign host key, unless released."""
        try:
            return self._mark() == self._job.seed.nonce
        except errors.HostKeyMismatch as error:
            if self.stage or self._job.released:
                return False
            raise self._job.failure(
                f"install it from {self._job.installer}",
                "it answers SSH with a host key that is not ours: a system runs there",
                "a machine without one, or leave to wipe it",
                f"`glm-fleet:release: {{{self._job.access.node}: WHY}}` wipes it; without `reinstall` and with its host_key it is adopted",
            ) from error
        except errors.Unreachable:
            return False

    def _wait_for_mark(self) -> None:
        """Wait for SSH with the pinned key, and for the mark, which the installer writes last."""
        try:
            ssh.wait(self._job.target, self._job.boot, self._note, self._cancelled)
        except errors.HostKeyMismatch:
            raise
        except errors.Unreachable as error:
            raise self._job.failure(
                f"wait for its installed system at {self._job.target.where}",
                f"the installer has ended, and then: {error.seen}",
                f"SSH that lets us in, within {_duration(self._job.boot)}",
                "look at its console; `pulumi up` continues to wait, another `reinstall` starts over",
            ) from error
        deadline = time.monotonic() + min(SETTLE, self._job.boot)
        while (mark := self._mark()) != self._job.seed.nonce:
            if time.monotonic() > deadline:
                raise self._job.failure(
                    "look for the mark of its installation",
                    f"{seed.MARK} says {mark!r}" if mark else f"there is no {seed.MARK}",
                    repr(self._job.seed.nonce),
                    "look at its console: the installer may not have run; another `reinstall` starts over",
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


def _elapsed(passed: float, within: float) -> str:
    return f"{passed / 60:.0f} min of {within / 60:.0f}" if within >= 120 else f"{passed:.0f} s of {within:.0f}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
