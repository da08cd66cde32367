"""A node that goes through scenarios of the matrix, with what past runs left on it. Used by tests/matrix and tests/vendors."""

import contextlib
import dataclasses
import time
from typing import Any

from fleet import errors, ssh
from tests.support import labs, playbook
from tests.support.role_node import COMMON, KEY, SERVED


@dataclasses.dataclass
class MatrixNode:
    """A node on which scenarios are gone through: those of the past, the variables that they left, what their runs told."""

    lab: str
    target: ssh.Target
    vars: dict[str, Any]
    done: list[str] = dataclasses.field(default_factory=list)
    asked: dict[str, Any] = dataclasses.field(default_factory=dict)
    told: dict[str, Any] = dataclasses.field(default_factory=dict)

    def sh(self, command: str) -> str:
        with ssh.connect(self.target) as connection:
            done = connection.run(command, timeout=120)
        assert done.rc == 0, f"{command}: {done.stderr or done.stdout}"
        return done.stdout.strip()

    def since(self, unit: str) -> str:
        """When the unit became active, in µs of the node's uptime; 0 when it never did."""
        return self.sh(f"systemctl show --value --property ActiveEnterTimestampMonotonic {unit}")

    def boot(self) -> str:
        return self.sh("cat /proc/sys/kernel/random/boot_id")

    def tip(self) -> str:
        """The newest commit of the source, which no stack pins."""
        refs = "http://git.lab.internal/transformers.git/info/refs?service=git-upload-pack"
        return self.sh(f"curl -fsS '{refs}' | grep -a 'refs/heads/main$' | tail -1 | cut -c5-44")

    def reboot(self) -> None:
        """Reboot, and wait until the new boot has started all that it starts."""
        before, end = self.boot(), time.monotonic() + labs.BOOT
        self.sh("systemctl --no-block reboot")
        while time.monotonic() < end:
            with contextlib.suppress(errors.Unreachable):  # it goes down, or comes up
                if self.boot() != before:
                    self.sh("systemctl is-system-running --wait || true")
                    return
        raise AssertionError(f"{self.target.name} did not come back within {labs.BOOT} s")

    def run(self, book: str, check: bool) -> playbook.Run:
        asked = {name: self.tip() if value == "{tip}" else value for name, value in self.asked.items()}
        given = {**self.vars, **COMMON, **SERVED, **asked}
        if book == "serving":
            given |= {
                "vllm_image": self.told["fleet_image"]["image"],
                "vllm_model_dir": self.told["fleet_weights"]["path"],
                "vllm_model_manifest": self.told["fleet_weights"]["manifest"],
            }
        ran = playbook.run(self.target, book, given, {"VLLM_API_KEY": KEY}, check)
        self.told |= ran.results
        return ran
