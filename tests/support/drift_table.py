"""The table drift.yml: the changes by hand, wave by wave. Owns the form of a row. Called by test_e2e_drift.py and by page.py."""

import pathlib
from typing import Annotated, Any, Literal

import pydantic
import yaml

from tests.support import rows

FILE = pathlib.Path(__file__).parents[1] / "e2e" / "drift.yml"


def _listed(report: Any) -> Any:
    return [report] if isinstance(report, str) else report


class Change(pydantic.BaseModel):
    """One change: what is changed, on which node, by which command, and what the refresh reports; `reboot`: the node reboots after it."""

    model_config = pydantic.ConfigDict(extra="forbid")

    kind: str
    node: Literal["glm-1", "glm-2"]
    do: str
    report: Annotated[list[str], pydantic.BeforeValidator(_listed)]
    reboot: bool = False


def waves() -> list[list[dict[str, Any]]]:
    """Return each change as the file has it, but `report` always a list. Raises FleetError for one of another form."""
    return [
        [
            rows.row(FILE, Change, keys, f"wave {number}, {keys.get('kind')}").model_dump(exclude_unset=True)
            for keys in wave
        ]
        for number, wave in enumerate(yaml.safe_load(FILE.read_text()), start=1)
    ]
