"""Generate docs/vendors.md: the findings of preflight on vendors' machines, and what `up` does there. Called by `make docs`; needs tests/support/vendor_table.py."""

from tests.support import vendor_table

HEAD = """# Machines of vendors

Vendors ship machines with a Docker, a driver, apt sources and pins. The project adopts what is good enough, and no teardown removes it. What would
fail later is an error: it stops the machine before any change, with the next step. The rows are data, `tests/vendors/machines.yml`. `make test` runs
the checks on the recorded facts of such a machine. `make test-all` makes the rows with ● as lab nodes (`lab/images/vendors/`), and runs preflight and
the host's playbook there. None of it ran on a vendor's own machine.

Settings: `docker_adopt`, `docker_minimum_version`, `rocm_driver_adopt`, `rocm_loader_services`, `rocm_loader_timeout`, `rocm_headers`,
`host_lock_timeout` (seconds that a run waits for cloud-init and for apt's lock). An error can have a waiver: `docs/preflight.md`.
"""


def page() -> str:
    """Return the page as Markdown."""
    lines = ["| machine | node | `fleet preflight` says | `up` |", "|---|---|---|---|"]
    for machine in vendor_table.load().values():
        findings = "<br>".join(
            f"{'**ERROR**' if result.level == 'error' else result.level} {result.check}: {result.seen}"
            + (f" → {result.next}" if result.level == "error" else "")
            for result in machine.results()
        ).replace("|", "\\|")
        node = "●" if machine.checks else ""
        lines.append(f"| **{machine.name}**: {machine.about} | {node} | {findings} | {machine.up} |")
    return "\n".join([HEAD, *lines, ""])
