"""A figure on a page is that of a run, and the page marks an old one as stale: tests/support/records.py."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import change_table, drift_table, fault_table, records

ROW: dict[str, Any] = {"fault": "clock off", "said": "glm-2: host: the clock"}
RECORD = {"date": "2026-11-29", "machine": "2 cores, 24 GiB", "commit": "abc12345"}
TABLES = {
    "faults": {row.fault: row.model_dump() for row in fault_table.load()},
    "drift": {change["kind"]: change for wave in drift_table.waves() for change in wave},
    "changes": {row.name: row.model_dump() for row in change_table.changes()},
}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(records, "NEW", tmp_path / "new")
    monkeypatch.setitem(records.KEPT, "faults", tmp_path / "kept.json")
    return tmp_path / "kept.json"


def test_a_record_of_a_run_is_current_until_its_row_changes(kept: Path) -> None:
    records.add("faults", {"clock off": ROW}, message=18.0)
    records.take()
    record = records.read("faults")["clock off"]
    assert record["message"] == 18.0
    assert "stale" not in records.state("faults", record, ROW)
    assert records.state("faults", record, {**ROW, "said": "x"}).endswith("; **stale**: changed since")


def test_a_record_without_the_right_digest_or_commit_is_stale(kept: Path) -> None:
    kept.write_text(json.dumps({"clock off": {**RECORD, "message": 1.0, "digest": "0" * 12}}))
    assert records.state("faults", records.read("faults")["clock off"], ROW).endswith("; **stale**: changed since")
    assert records.state("faults", RECORD, ROW) == "2026-11-29, 2 cores, 24 GiB; **stale**: recorded without its commit"
    assert records.state("faults", {}, ROW) == "not yet"


def test_a_record_is_stale_when_its_role_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = records.digest("faults", ROW)
    listing = records.role_digest.listing
    monkeypatch.setattr(records.role_digest, "listing", lambda folder: listing(folder) + "changed")
    assert records.digest("faults", ROW) != before
    ssh = {**ROW, "said": "glm-2: SSH"}
    assert records.digest("faults", ssh) == records.digest("faults", ssh)


def test_a_record_of_a_change_is_stale_when_its_prediction_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {table: records.digest(table, ROW) for table in ("changes", "faults")}
    monkeypatch.setattr(records, "EFFECTS", "meta/main.yml")  # another text
    assert records.digest("changes", ROW) != before["changes"]
    assert records.digest("faults", ROW) == before["faults"]


@pytest.mark.parametrize("table", TABLES)
def test_every_record_belongs_to_a_row(table: str) -> None:
    assert set(records.read(table)) <= set(TABLES[table]), f"no row has this name: remove it from {records.KEPT[table]}"


@pytest.mark.parametrize("table", records.SPOKEN_BY)
def test_each_file_that_a_record_depends_on_exists(table: str) -> None:
    missing = [name for name in records.SPOKEN_BY[table] if not (records.ROOT / name).is_file()]
    assert missing == [], "it moved: name its new place in tests/support/records.py"
