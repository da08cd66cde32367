"""Generate docs/faults.md from table/*.yml: faults, their messages, the next step, and the seconds that both took. Called by `make docs`.

measured.json has the measurements of the tests (tests/support/records.py).
"""

from typing import Any

from tests.support import fault_table, records

HEAD = """# Faults

`tests/faults/` causes each fault in a lab with two serving nodes; `make docs` generates this page from its table. The other node finishes meanwhile.
After the end of the fault the next `pulumi up` goes on where this one stopped, and then `pulumi preview --refresh` shows nothing. `*` is any text.
*Message after*: seconds from the fault, or from the start of the run for an earlier fault, to the message on the screen. *Next `up`*: seconds of that
`up`. A row names the machine, the day and the commit of its measurement; the figures are for comparison. *Stale*: the row, its role or the code of the
message changed since. `not yet`: the row is expected, and no run has shown it.

| fault | message | what to do | message after | next `up` | measured |
|---|---|---|---|---|---|"""


def page() -> str:
    """Return the page as Markdown."""
    measured = records.read("faults")
    return "\n".join([HEAD, *(_row(fault, measured.get(fault.fault, {})) for fault in fault_table.load()), ""])


def _row(row: fault_table.Fault, measured: dict[str, Any]) -> str:
    message, todo = _parts(row.message)
    again = f"<br>run again: {_code(_parts(row.again)[0])}" if row.again else ""
    figures = [f"{measured[key]:.0f} s" if key in measured else "" for key in ("message", "convergence")]
    when = records.state("faults", measured, row.model_dump())
    next_step = row.todo or _code(_parts(row.again)[1] if row.again else todo)
    cells = [row.fault, _code(message) + again, next_step, *figures, when]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _parts(message: str) -> tuple[list[str], list[str]]:
    """Return the lines of a message before `next:`, and those from it on."""
    lines = [line.strip() for line in message.strip().splitlines()]
    at = next((number for number, line in enumerate(lines) if line.startswith("next:")), len(lines))
    return lines[:at], [line.removeprefix("next:").strip() for line in lines[at:]]


def _code(lines: list[str]) -> str:
    """Return Markdown code, one piece per line."""
    return "<br>".join(f"`` {line} ``" if "`" in line else f"`{line}`" for line in lines)
