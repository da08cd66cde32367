"""How old the last backup of a stack is, for `fleet show`: bootstrap/backup.sh leaves a record of the last one on this controller."""

import datetime
import json
import shlex

import pydantic

from fleet import printable
from fleet.cli import common

NONE = "last backup  none is known on this machine: `fleet backup -s {stack}`"


class Record(pydantic.BaseModel):
    """When the backup was made, when Pulumi had written its state, and where it is."""

    made: datetime.datetime
    state: datetime.datetime
    place: str


def line(stack: str, saved: str, now: datetime.datetime) -> str:
    """Return the age of the last backup, with a warning where the stack's state was `saved` after that of the backup."""
    quoted = shlex.quote(stack)
    try:
        record = Record.model_validate_json((common.state_folder() / "last-backup" / f"{stack}.json").read_text())
    except (OSError, ValueError):
        return NONE.format(stack=quoted)
    age = _age(now - record.made)
    text = f"last backup  {record.made:%Y-%m-%d %H:%M} UTC, {age} ago: {printable.short(record.place, 200)}"
    try:
        older = bool(saved) and record.state < datetime.datetime.fromisoformat(saved)
    except (ValueError, TypeError):
        older = True
    return f"{text}\n  older than the last `up`: `fleet backup -s {quoted}`" if older else text


def _age(age: datetime.timedelta) -> str:
    """Return an age as `3 days`, `5 h` or `12 min`."""
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes >= 2 * 24 * 60:
        return f"{minutes // (24 * 60)} days"
    return f"{minutes // 60} h" if minutes >= 120 else f"{minutes} min"


def to_json(made: str, state: str, place: str) -> str:
    """Return a record in the form that `line` reads."""
    return json.dumps({"made": made, "state": state, "place": place})
