"""docs/vendors.md: what preflight and `up` make of machines that a vendor set up. `make docs` writes it."""

from tests.support import vendor_table

HEAD = """# Machines of vendors

Machines come with a Docker, a driver, sources and pins of their vendor's. What is there and good enough is used and never taken off; what
would end badly stops the machine before anything on it is touched, and says what to do. Every row is data, `tests/vendors/machines.yml`:
`make test` checks what such a machine says of itself; `make test-all` makes the rows with ● as lab nodes (`lab/images/vendors/`) and
runs preflight and the host's playbook there. None of it ran on a vendor's own machine.

The settings: `docker_adopt`, `docker_minimum_version`, `rocm_driver_adopt`, `rocm_loader_services`, `rocm_loader_timeout`,
`rocm_headers`, `host_lock_timeout` (how long a run waits for cloud-init and for apt's lock). Errors can be waived: `docs/preflight.md`.
"""


def page() -> str:
    """Return the page as Markdown."""
    lines = ["| machine | node | `fleet preflight` says | `up` |", "|---|---|---|---|"]
    for one in vendor_table.load().values():
        told = "<br>".join(
            f"{'**ERROR**' if result.level == 'error' else result.level} {result.check}: {result.seen}"
            + (f" → {result.next}" if result.level == "error" else "")
            for result in one.results()
        ).replace("|", "\\|")
        lines.append(f"| **{one.name}**: {one.about} | {'●' if one.checks else ''} | {told} | {one.up} |")
    return "\n".join([HEAD, *lines, ""])


if __name__ == "__main__":
    print(page(), end="")
