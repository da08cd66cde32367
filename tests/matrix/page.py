"""Generate docs/systems.md: the scenarios per system, and those that `make test` runs. Called by `make docs`; needs tests/support/scenario_table.py."""

from tests.support import scenario_table

HEAD = """# Five systems

Every role supports each of these systems. The scenarios are data, one file each in `tests/matrix/scenarios/`; `make docs` generates this page from
them. `make test` runs the cells with ●, `make test-all` those with ● and ○, on lab nodes with the system's own systemd, apt, Python and Docker
Engine. `tests/e2e` runs whole deployments on Ubuntu 24.04 and Debian 12, `tests/roles` the single roles (Debian 12 only by `make test-all`).
"""


def page() -> str:
    """Return the page as Markdown."""
    lines = [f"| scenario | {' | '.join(scenario_table.SYSTEMS)} |", f"|---|{'---|' * len(scenario_table.SYSTEMS)}"]
    for scenario in scenario_table.load().values():
        marks = ["●" if system in scenario.make_test else "○" for system in scenario_table.SYSTEMS]
        lines.append(f"| **{scenario.name}**: {scenario.about} | {' | '.join(marks)} |")
    return "\n".join([HEAD, *lines, ""])
