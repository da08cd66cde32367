"""Records of runs on lab nodes, and whether they still hold: a record has the commit, and a digest of everything that it depends on.

A run writes records into report/ (`add`); `python -m tests.support.records` copies them into the files beside the tables, for the pages of
docs/ (`read`, `state`). Called by the tests of faults, drift and changes and by their pages.
"""

import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
from typing import Any

from fleet.stack import role_digest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NEW = ROOT / "report" / "records"
# The committed records, by the table that they belong to.
KEPT = {
    "faults": ROOT / "tests" / "faults" / "measured.json",
    "drift": ROOT / "tests" / "e2e" / "measured.json",
    "changes": ROOT / "tests" / "changes" / "measured.json",
}
# The files that, beside the role, decide a run's result. A change of any other file of fleet/ does not make a record stale.
SPOKEN_BY = {
    "faults": (
        "fleet/errors.py",
        "fleet/ansible/connection_loss.py",
        "fleet/ansible/events.py",
        "tests/support/inject.py",
    ),
    "drift": ("fleet/managed/managed_set.py", "fleet/managed/on_node_read.py", "tests/e2e/test_e2e_drift.py"),
    "changes": (
        "fleet/impact/effects.py",
        "fleet/impact/role_effects.py",
        "tests/support/testbed.py",
        "tests/support/forecast_reader.py",
        "tests/support/report_reader.py",
    ),
}
# What a role says that a change of it does: the prediction of the table changes, and no part of a role's listing.
EFFECTS = "meta/effects.yml"
ROLE = re.compile(r"\b(host|docker|rocm|transformers|weights|vllm|gateway|kubernetes|long_task)\b")


def digest(table: str, row: Any) -> str:
    """Return 12 hex of a sha256 over the row, the roles that it names and the files of its table."""
    text = json.dumps(row, sort_keys=True, default=str)
    named = [ROOT / "roles" / name for name in sorted(set(ROLE.findall(text)))]
    roles = [role_digest.listing(folder) for folder in named]
    roles += [(folder / EFFECTS).read_text() for folder in named] if table == "changes" else []
    files = [(ROOT / name).read_text() for name in SPOKEN_BY[table] if (ROOT / name).is_file()]
    return hashlib.sha256("\0".join([text, *roles, *files]).encode()).hexdigest()[:12]


def add(table: str, rows: dict[str, Any], **figures: float) -> None:
    """Add a record of each row (by name) of a complete run to report/records/TABLE.json."""
    file = NEW / f"{table}.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    for name, row in rows.items():
        stored[name] = {
            **figures,
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB",
            "commit": _commit(),
            "digest": digest(table, row),
        }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(stored, indent=1) + "\n")


def read(table: str) -> dict[str, dict[str, Any]]:
    """Return the committed records of a table, by row."""
    file = KEPT[table]
    stored: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    return stored


def holds(table: str, name: str, row: Any) -> bool:
    """Return whether a run, committed or not, has shown a row as it is now."""
    file = NEW / f"{table}.json"
    stored = {**read(table), **(json.loads(file.read_text()) if file.exists() else {})}
    return name in stored and stored[name].get("digest") == digest(table, row)


def state(table: str, record: dict[str, Any], row: Any) -> str:
    """Return when and where a run showed a row, in words, and whether it is stale."""
    if not record:
        return "not yet"
    where = f"{record['date']}, {record['machine']}"
    if "digest" not in record:
        return f"{where}; **stale**: recorded without its commit"
    if record["digest"] != digest(table, row):
        return f"{where}, at {record['commit']}; **stale**: changed since"
    return f"{where}, at {record['commit']}"


def take() -> None:
    """Copy the records of runs into the committed ones."""
    for file in NEW.glob("*.json"):
        stored = {**read(file.stem), **json.loads(file.read_text())}
        KEPT[file.stem].write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n")


def _commit() -> str:
    """Return the present commit, with a + where the tree differs from it."""
    described = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=8", "--dirty=+", "--exclude=*"]
    return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    take()
