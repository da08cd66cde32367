"""The preflight's checks by name, for the half that opens no connection: those that a stack may waive.

Called by `fleet.stack.requirements`, and by the policies, which know each waiver. fleet/preflight has the checks themselves; that both have
the same names is a claim of tests/unit/test_preflight_waivers.py.
"""

# Not among them: the owner. What another stack has there is not this one's to waive.
OF_HARDWARE = (
    "kernel headers secure-boot gpus links partitions firmware driver driver-release modprobe-d memory nvme kernel-log"
)
OF_HOST = "system space disks clock network sources apt reboot orchestrator ports docker"
WAIVABLE = tuple(f"preflight-{name}" for name in f"{OF_HARDWARE} {OF_HOST}".split())
