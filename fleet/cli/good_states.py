"""The states of a stack that were good: each update of Pulumi's history that ended well, for its replicas had passed their probes.

Pulumi writes the configuration and the result of each update into its backend. A backup has the good ones too; bootstrap/restore.sh puts them
into the state folder, because a new backend has no history. Needs `pulumi` on PATH. Called by `fleet rollback` and by bootstrap/backup.sh.
"""

import datetime
import json
from pathlib import Path
from typing import Annotated, Any

import pydantic

from fleet import errors
from fleet.cli import common, stack_outputs
from fleet.stack import served_values

MOST = 50  # updates of the history that are read
# With one of these flags of `pulumi up`, an update that ended well did not change everything to its configuration.
PARTIAL = tuple(f"pulumi.flag.{name}" for name in ("target", "target-dependents", "exclude", "exclude-dependents"))


class Value(pydantic.BaseModel):
    """A value of the configuration; a secret has none here."""

    value: str | None = None
    objectValue: Any = None  # Pulumi's name


class Update(pydantic.BaseModel):
    """One update, as `pulumi stack history --json` prints it, and as a backup keeps it. The configuration may be incomplete: no secrets."""

    kind: str
    result: str
    endTime: Annotated[datetime.datetime, pydantic.AfterValidator(lambda time: time.astimezone(datetime.UTC))]
    environment: dict[str, str] = {}
    config: dict[str, Value] = {}

    @property
    def good(self) -> bool:
        """Whether everything was changed to its configuration, and passed its probes."""
        known = all(self.config[key].objectValue is not None for key in served_values.KEYS if key in self.config)
        whole = not any(flag in self.environment for flag in PARTIAL)
        return self.kind == "update" and self.result == "succeeded" and whole and known

    @property
    def commit(self) -> str:
        """The commit of the checkout, "" outside of one."""
        return self.environment.get("git.head", "")

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as {"glm-fleet:KEY": value}, of the values that are mappings or lists."""
        return {key: value.objectValue for key, value in self.config.items() if value.objectValue is not None}


UPDATES = pydantic.TypeAdapter(list[Update])


def read(stack: str) -> list[Update]:
    """Return the good states of a stack, the newest first. Raises FleetError."""
    history = _parse(stack_outputs.ask(stack, "history", "stack", "history", "--json", "--page-size", str(MOST)), stack)
    known = {update.endTime for update in history}
    kept = [update for update in _kept(stack) if update.endTime not in known]
    good = [update for update in [*history, *kept] if update.good]
    return sorted(good, key=lambda update: update.endTime, reverse=True)


def to_json(updates: list[Update]) -> str:
    """Return good states in the form that a backup keeps."""
    return UPDATES.dump_json(updates, exclude_none=True).decode()


def file(stack: str) -> Path:
    """Return the file with the good states of a restored backup."""
    return common.state_folder() / "good" / f"{stack}.json"


def _kept(stack: str) -> list[Update]:
    path = file(stack)
    if not path.is_file():
        return []
    try:
        return _parse(json.loads(path.read_text()), stack)
    except ValueError:
        raise _wrong(f"{path} is no JSON") from None


def _parse(content: Any, stack: str) -> list[Update]:
    try:
        return UPDATES.validate_python(content or [])
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _wrong(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _wrong(seen: str) -> errors.FleetError:
    return errors.FleetError(
        doing="read the good states",
        seen=seen,
        wanted="updates as `pulumi stack history --json` prints them",
        next="`git log -p stacks/` has the earlier values",
    )
