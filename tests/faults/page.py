"""docs/faults.md: what can go wrong, the message, what to do, and how long both take. `make docs` writes it from table/*.yml.

The measurements are in measured.json (tests/support/records.py).
"""

from typing import Any

from tests.support import fault_table, records

HEAD = """# Faults

Each row is done to two lab nodes that serve (`tests/faults/`; this page is made from its table, `make docs`). The other node finishes
meanwhile; once the fault is gone, the next `pulumi up` goes on where this one stopped, and then `pulumi preview --refresh` shows nothing.
`*` is any text. Seconds: from the fault, or from the start of the run where it was there before, until the message is on the screen; and
how long that next `up` took. They were measured on the machine, the day and the commit that the row names, and are for comparing. *Stale*:
the row, the role that it names or what words the message has changed since. `not yet`: what stands there is expected, it was not seen.

| fault | what is said | what to do | message after | next `up` | measured |
|---|---|---|---|---|---|"""


def page() -> str:
    """Return the page as Markdown."""
    all_figures = records.read("faults")
    return "\n".join([HEAD, *(_row(fault, all_figures.get(fault.fault, {})) for fault in fault_table.load()), ""])


def _row(fault: fault_table.Fault, record: dict[str, Any]) -> str:
    message, todo = _parts(fault.message)
    again = f"<br>run again: {_code(_parts(fault.again)[0])}" if fault.again else ""
    figures = [f"{record[key]:.0f} s" if key in record else "" for key in ("message", "convergence")]
    when = records.state("faults", record, fault.model_dump())
    next_step = fault.todo or _code(_parts(fault.again)[1] if fault.again else todo)
    cells = [fault.fault, _code(message) + again, next_step, *figures, when]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _parts(message: str) -> tuple[list[str], list[str]]:
    """Return a message's lines up to `next:`, and those after it."""
    lines = [line.strip() for line in message.strip().splitlines()]
    at = next((number for number, line in enumerate(lines) if line.startswith("next:")), len(lines))
    return lines[:at], [line.removeprefix("next:").strip() for line in lines[at:]]


def _code(lines: list[str]) -> str:
    """Return lines as code, each on a line of its own."""
    return "<br>".join(f"`` {line} ``" if "`" in line else f"`{line}`" for line in lines)


if __name__ == "__main__":
    print(page(), end="")
