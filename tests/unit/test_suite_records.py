"""A figure on a page is that of a run, and the page says when it no longer is: tests/support/records.py."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import change_table, drift_table, fault_table, records

ROW: dict[str, Any] = {"fault": "clock off", "said": "glm-2: host: the clock"}
RECORD = {"date": "2026-11-29", "machine": "2 cores, 24 GiB", "commit": "abc12345"}
TABLES = {
    "faults": {one.fault: one.model_dump() for one in fault_table.load()},
    "drift": {change["kind"]: change for wave in drift_table.waves() for change in wave},
    "changes": {row.name: row.model_dump() for row in change_table.changes()},
}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(records, "NEW", tmp_path / "new")
    monkeypatch.setitem(records.KEPT, "faults", tmp_path / "kept.json")
    return tmp_path / "kept.json"


def test_what_a_run_recorded_is_current_until_its_row_changes(kept: Path) -> None:
    records.add("faults", {"clock off": ROW}, message=18.0)
    records.take()
    record = records.read("faults")["clock off"]
    assert record["message"] == 18.0
    assert "stale" not in records.state("faults", record, ROW)
    assert records.state("faults", record, {**ROW, "said": "glm-2: host: another"}).endswith(
        "; **stale**: changed since"
    )


def test_a_figure_that_nobody_recorded_is_shown_as_stale(kept: Path) -> None:
    kept.write_text(json.dumps({"clock off": {**RECORD, "message": 1.0, "digest": "0" * 12}}))
    assert records.state("faults", records.read("faults")["clock off"], ROW).endswith("; **stale**: changed since")
    assert records.state("faults", RECORD, ROW) == "2026-11-29, 2 cores, 24 GiB; **stale**: recorded without its commit"
    assert records.state("faults", {}, ROW) == "not yet"


def test_a_record_is_stale_when_its_role_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = records.digest("faults", ROW)
    listing = records.role_digest.listing
    monkeypatch.setattr(records.role_digest, "listing", lambda folder: listing(folder) + "changed")
    assert records.digest("faults", ROW) != before
    assert records.digest("faults", {**ROW, "said": "glm-2: SSH"}) == records.digest(
        "faults", {**ROW, "said": "glm-2: SSH"}
    )


@pytest.mark.parametrize("table", TABLES)
def test_every_record_belongs_to_a_row(table: str) -> None:
    assert set(records.read(table)) <= set(TABLES[table]), f"no row has this name: take it out of {records.KEPT[table]}"


@pytest.mark.parametrize("table", records.SPOKEN_BY)
def test_what_a_record_depends_on_is_there(table: str) -> None:
    missing = [name for name in records.SPOKEN_BY[table] if not (records.ROOT / name).is_file()]
    assert missing == [], "it moved: name its new place in tests/support/records.py"
