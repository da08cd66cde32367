"""docs/systems.md: which scenario holds on which system, and which of them `make test` goes through. `make docs` writes it."""

from tests.support import scenario_table

HEAD = """# Five systems

Every role is meant for each of these systems. What is tested is data: one file a scenario in `tests/matrix/scenarios/`, from which this page
is made (`make docs`). `make test` goes through the cells with ●; `make test-all` through ● and ○, on lab nodes with the system's own systemd,
apt, Python and Docker Engine. Ubuntu 24.04 and Debian 12 also go the whole road in `tests/e2e`,
and role by role in `tests/roles` (Debian 12 by `make test-all` only).
"""


def page() -> str:
    """The page as Markdown."""
    lines = [f"| scenario | {' | '.join(scenario_table.SYSTEMS)} |", f"|---|{'---|' * len(scenario_table.SYSTEMS)}"]
    for one in scenario_table.load().values():
        marks = ["●" if system in one.make_test else "○" for system in scenario_table.SYSTEMS]
        lines.append(f"| **{one.name}**: {one.about} | {' | '.join(marks)} |")
    return "\n".join([HEAD, *lines, ""])


if __name__ == "__main__":
    print(page(), end="")
