"""Generate docs/faults.md from table/*.yml: faults, their messages, the next step, and the seconds that both took. Called by `make docs`.

Faults of the endpoint have a table of their own: what a client sees, and the tests where other ones than tests/faults cause them.

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
ENDPOINT = """
## The endpoint

What a client of the gateways sees, and what the operator sees: the message of the next `up` or refresh, or where else it is. For a row with a figure,
clients ask without a pause from before the fault until the next `up` has converged; what they may lose is in the row. A row with the name of a test
is caused there.

| fault | a client sees | the operator sees | what to do | next `up` | measured or tested |
|---|---|---|---|---|---|"""


def page() -> str:
    """Return the page as Markdown."""
    rows = fault_table.rows()
    own = [_row(row) for row in rows if isinstance(row, fault_table.Fault) and not row.client]
    return "\n".join([HEAD, *own, ENDPOINT, *(_of_endpoint(row) for row in rows if row.client), ""])


def _row(row: fault_table.Fault) -> str:
    message, next_step = _said(row)
    measured = records.read("faults").get(row.fault, {})
    return _cells(row.fault, message, next_step, *_figures(measured, "message", "convergence"), _when(row, measured))


def _of_endpoint(row: fault_table.Fault | fault_table.Elsewhere) -> str:
    if isinstance(row, fault_table.Elsewhere):
        return _cells(row.fault, row.client, row.operator, "", "", "<br>".join(f"`{test}`" for test in row.tested))
    measured = records.read("faults").get(row.fault, {})
    return _cells(row.fault, row.client, *_said(row), *_figures(measured, "convergence"), _when(row, measured))


def _said(row: fault_table.Fault) -> tuple[str, str]:
    """Return the message, and what to do next."""
    message, todo = _parts(row.message)
    again = f"<br>run again: {_code(_parts(row.again)[0])}" if row.again else ""
    return _code(message) + again, row.todo or _code(_parts(row.again)[1] if row.again else todo)


def _figures(measured: dict[str, Any], *names: str) -> list[str]:
    return [f"{measured[name]:.0f} s" if name in measured else "" for name in names]


def _when(row: fault_table.Fault, measured: dict[str, Any]) -> str:
    return records.state("faults", measured, row.model_dump())


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _parts(message: str) -> tuple[list[str], list[str]]:
    """Return the lines of a message before `next:`, and those from it on."""
    lines = [line.strip() for line in message.strip().splitlines()]
    at = next((number for number, line in enumerate(lines) if line.startswith("next:")), len(lines))
    return lines[:at], [line.removeprefix("next:").strip() for line in lines[at:]]


def _code(lines: list[str]) -> str:
    """Return Markdown code, one piece per line."""
    return "<br>".join(f"`` {line} ``" if "`" in line else f"`{line}`" for line in lines)
