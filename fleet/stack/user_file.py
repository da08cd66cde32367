"""A user's file of YAML, read with bounds: each mistake in its form is reported with file and place.

Uses libyaml, which is many times faster than Python's own reader and ends the process on what is nested too deep: so the depth is counted
first. Called by `stackfile` for a stack file and by `inventory` for a file of machines.
"""

from pathlib import Path
from typing import Any

import yaml

from fleet import errors

DEPTH = 50  # levels; ours have ten


def read(path: Path, shown: str, allowed: str) -> Any:
    """Return what the file holds; `shown` is its name in a message, `allowed` the form that it should have.

    Raises SettingsError: no UTF-8, no YAML, nested deeper than DEPTH. OSError where the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if (line := _too_deep(text)) is not None:
            seen = f"is nested deeper than {DEPTH} levels"
            raise errors.SettingsError(file=shown, key=f"line {line}", seen=seen, allowed=allowed)
        return yaml.load(text, Loader=yaml.CSafeLoader)
    except UnicodeDecodeError as error:
        seen = "is not UTF-8"
        raise errors.SettingsError(file=shown, key=f"byte {error.start}", seen=seen, allowed="text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        key = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise errors.SettingsError(file=shown, key=key, seen=str(error.problem), allowed=allowed) from None
    except (
        yaml.YAMLError,
        ValueError,
    ) as error:  # a character that YAML does not allow; a date or a number that is none
        seen = str(error).splitlines()[0]
        raise errors.SettingsError(file=shown, key="", seen=seen, allowed=allowed) from None


def _too_deep(text: str) -> int | None:
    """Return the line at which the text is nested deeper than DEPTH, None where it is not."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH:
                return event.start_mark.line + 1 if event.start_mark else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None
