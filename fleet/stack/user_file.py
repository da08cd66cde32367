"""Reads a user's YAML file, within limits, and reports mistakes with file and line.

Uses libyaml, which is many times faster than Python's own reader but ends the process when the file is nested too deep, so the depth is
counted first. Called by `stack_file` for a stack file and by `inventory` for a file of machines.
"""

from pathlib import Path
from typing import Any

import yaml

from fleet import errors

DEPTH = 50  # levels; ours have ten


def read(path: Path, label: str, allowed: str) -> Any:
    """Return the content of the file. `label` is its name in a message, `allowed` the form that it must have.

    Raises SettingsError when it is not UTF-8, not YAML or nested deeper than DEPTH, OSError when it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if (line := _too_deep(text)) is not None:
            seen = f"is nested deeper than {DEPTH} levels"
            raise errors.SettingsError(file=label, key=f"line {line}", seen=seen, allowed=allowed)
        return yaml.load(text, Loader=yaml.CSafeLoader)
    except UnicodeDecodeError as error:
        seen = "is not UTF-8"
        raise errors.SettingsError(file=label, key=f"byte {error.start}", seen=seen, allowed="text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        key = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise errors.SettingsError(file=label, key=key, seen=str(error.problem), allowed=allowed) from None
    except (yaml.YAMLError, ValueError) as error:  # a character that YAML forbids; a malformed date or number
        seen = str(error).splitlines()[0]
        raise errors.SettingsError(file=label, key="", seen=seen, allowed=allowed) from None


def _too_deep(text: str) -> int | None:
    """Return the first line that is nested deeper than DEPTH, or None."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH:
                return event.start_mark.line + 1 if event.start_mark else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None
