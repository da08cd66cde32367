"""The names of the preflight checks that a stack may waive, for code that opens no connection.

Used by `requirements` and the policy pack. fleet/preflight has the checks; tests/unit/test_preflight_waivers.py compares the names.
"""

# Without the check `owner`: a stack cannot waive that another stack owns the machine.
OF_HARDWARE = (
    "kernel headers secure-boot gpus links partitions firmware driver driver-release modprobe-d memory nvme kernel-log"
)
OF_HOST = "system space disks clock network sources apt reboot boot orchestrator ports docker"
WAIVABLE = tuple(f"preflight-{name}" for name in f"{OF_HARDWARE} {OF_HOST}".split())
