"""A node for scenarios of the matrix, with the results of its past runs. Used by tests/matrix and tests/vendors."""

import contextlib
import dataclasses
import time
from typing import Any

from fleet import errors, ssh
from tests.support import labs, playbook
from tests.support.role_node import COMMON, KEY, SERVED


@dataclasses.dataclass
class MatrixNode:
    """A node with its past scenarios, their variables, and the results of their runs."""

    lab: str
    target: ssh.Target
    vars: dict[str, Any]
    scenarios: list[str] = dataclasses.field(default_factory=list)
    variables: dict[str, Any] = dataclasses.field(default_factory=dict)
    results: dict[str, Any] = dataclasses.field(default_factory=dict)

    def sh(self, command: str) -> str:
        with ssh.connect(self.target) as connection:
            result = connection.run(command, timeout=120)
        assert result.rc == 0, f"{command}: {result.stderr or result.stdout}"
        return result.stdout.strip()

    def since(self, unit: str) -> str:
        """Return when the unit became active, in µs of the node's uptime; 0 when it never did."""
        return self.sh(f"systemctl show --value --property ActiveEnterTimestampMonotonic {unit}")

    def boot(self) -> str:
        return self.sh("cat /proc/sys/kernel/random/boot_id")

    def tip(self) -> str:
        """Return the newest commit of the source, which no stack pins."""
        refs = "http://git.lab.internal/transformers.git/info/refs?service=git-upload-pack"
        return self.sh(f"curl -fsS '{refs}' | grep -a 'refs/heads/main$' | tail -1 | cut -c5-44")

    def reboot(self) -> None:
        """Reboot, and wait until the new boot has started all of its units."""
        before, end = self.boot(), time.monotonic() + labs.BOOT
        self.sh("systemctl --no-block reboot")
        while time.monotonic() < end:
            with contextlib.suppress(errors.Unreachable):  # it shuts down, or boots
                if self.boot() != before:
                    self.sh("systemctl is-system-running --wait || true")
                    return
        raise AssertionError(f"{self.target.name} did not come back within {labs.BOOT} s")

    def run(self, book: str, check: bool) -> playbook.Run:
        own = {name: self.tip() if value == "{tip}" else value for name, value in self.variables.items()}
        variables = {**self.vars, **COMMON, **SERVED, **own}
        if book == "serving":
            variables |= {
                "vllm_image": self.results["fleet_image"]["image"],
                "vllm_model_dir": self.results["fleet_weights"]["path"],
                "vllm_model_manifest": self.results["fleet_weights"]["manifest"],
            }
        run = playbook.run(self.target, book, variables, {"VLLM_API_KEY": KEY}, check)
        self.results |= run.results
        return run
