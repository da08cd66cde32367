"""docs/faults.md: what can go wrong, what is said then, what to do, and how long both take. `make docs` writes it from table/*.yml.

`python -m tests.faults.page --record FILE...` takes over what tests measured (ordeal.record) into measured.json, which the page shows.
"""

import argparse
import json
import pathlib
from typing import Any

from tests.faults import fault

MEASURED = pathlib.Path(__file__).with_name("measured.json")
HEAD = """# Faults

Each row is done to two lab nodes that serve (`tests/faults/`; this page is made from its table, `make docs`). The other node finishes
meanwhile; once the fault is gone, the next `pulumi up` goes on where this one stopped, and then `pulumi preview --refresh` shows nothing.
`*` is any text. Seconds: from the fault, or from the start of the run where it was there before, until the message is on the screen; and
how long that next `up` took. They were measured on the machine and the day that the row names, and are for comparing.
A row without a day (`not yet`) has not been gone through whole: what it says there is what is expected, not what was seen.

| fault | what is said | what to do | message after | next `up` | measured |
|---|---|---|---|---|---|"""


def page() -> str:
    """The page as Markdown."""
    measured = json.loads(MEASURED.read_text())
    return "\n".join([HEAD, *(_row(one, measured.get(one.fault, {})) for one in fault.load()), ""])


def _row(one: fault.Fault, measured: dict[str, Any]) -> str:
    seen, todo = _parts(one.said)
    again = f"<br>run again: {_code(_parts(one.again)[0])}" if one.again else ""
    figures = [f"{measured[key]:.0f} s" if key in measured else "" for key in ("message", "convergence")]
    when = f"{measured['date']}, {measured['machine']}" if measured else "not yet"
    cells = [
        one.fault,
        _code(seen) + again,
        one.todo or _code(_parts(one.again)[1] if one.again else todo),
        *figures,
        when,
    ]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _parts(said: str) -> tuple[list[str], list[str]]:
    """A message's lines up to `next:`, and those after it."""
    lines = [line.strip() for line in said.strip().splitlines()]
    at = next((number for number, line in enumerate(lines) if line.startswith("next:")), len(lines))
    return lines[:at], [line.removeprefix("next:").strip() for line in lines[at:]]


def _code(lines: list[str]) -> str:
    """Lines as code, each on a line of its own."""
    return "<br>".join(f"`` {line} ``" if "`" in line else f"`{line}`" for line in lines)


def main() -> None:
    """Print the page, or take measurements over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--record", nargs="+", type=pathlib.Path, default=[], help="files that tests wrote beside the evidence"
    )
    options = parser.parse_args()
    if not options.record:
        print(page(), end="")
        return
    known = json.loads(MEASURED.read_text())
    for file in options.record:
        known.update(json.loads(file.read_text()))
    rows = [one.fault for one in fault.load()]
    MEASURED.write_text(json.dumps({name: known[name] for name in rows if name in known}, indent=1) + "\n")


if __name__ == "__main__":
    main()
