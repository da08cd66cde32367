"""Reads the tables that tests and pages are made from: a YAML file with a list of rows, each of one form."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from fleet import errors

Form = TypeVar("Form", bound=pydantic.BaseModel)


def read(file: Path, form: type[Form], **more: Any) -> Iterator[Form]:
    """Yield the rows of a file; `more` are keys of every row. Raises FleetError for one of another form."""
    for number, keys in enumerate(yaml.safe_load(file.read_text()) or (), start=1):
        yield row(file, form, {**more, **keys}, f"row {number} ({next(iter(keys.values()))})")


def row(file: Path, form: type[Form], keys: Mapping[str, Any], place: str = "") -> Form:
    """Return one row. Raises FleetError where it has another form."""
    try:
        return form(**keys)
    except pydantic.ValidationError as error:
        mistakes = [f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg'].lower()}" for mistake in error.errors()]
        raise errors.FleetError(
            node="/".join(file.parts[-3:]),
            doing=place,
            seen="; ".join(mistakes),
            wanted=f"the keys of {form.__name__} in {form.__module__}",
            next="correct the file, then `make docs`",
        ) from None
