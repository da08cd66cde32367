"""The generated pages of docs/ are current, and a generator reports data that lacks something with the place to add it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import errors
from fleet.acceptance import catalogue
from fleet.impact import role_effects
from fleet.stack import role_vars
from fleet.stack.rules import models
from policies import data
from tests.support import change_table, drift_table, fault_table, pages, scenario_table, vendor_table

READERS = (role_effects.read_statement, change_table.load, fault_table.rows, scenario_table.load, vendor_table.load)


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_is_current(name: str) -> None:
    assert (pages.DOCS / name).read_text() == pages.text(name), "`make docs` writes it"


@pytest.fixture
def fresh() -> Iterator[None]:
    """Clear the readers' caches before and after a test."""
    for reader in READERS:
        reader.cache_clear()
    yield
    for reader in READERS:
        reader.cache_clear()


def message(name: str) -> str:
    with pytest.raises(errors.FleetError) as caught:
        pages.text(name)
    return str(caught.value)


# Page: module and name of the path of its data, the file, a content that lacks something, a part of the message.
LACKING: Mapping[str, tuple[Any, str, str, Any, str]] = {
    "drift.md": (drift_table, "FILE", "e2e/drift.yml", [[{"kind": "a mode", "node": "glm-1", "do": "chmod 600 /x"}]], "e2e/drift.yml: wave 1, a mode: report: field required"),
    "faults.md": (fault_table, "FOLDER", "faults/table/1.yml", [{"fault": "clock off"}], "faults/table/1.yml: row 1 (clock off): message: field required"),
    "systems.md": (scenario_table, "FOLDER", "matrix/scenarios/1-new.yml", {"about": "x"}, "matrix/scenarios/1-new.yml: make_test: field required"),
    "vendors.md": (vendor_table, "FILE", "vendors/machines.yml", [{"name": "new", "about": "x", "source": "y", "up": "z"}], "vendors/machines.yml: row 1 (new): facts: field required"),
    "acceptance.md": (catalogue, "FILE", "mi300x.yml", {"checked": "2026-11-29"}, "fleet/acceptance/mi300x.yml"),
}  # fmt: skip


@pytest.mark.parametrize("name", LACKING)
@pytest.mark.usefixtures("fresh")
def test_the_message_names_a_row_that_lacks_a_key(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, variable, path, content, part = LACKING[name]
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    monkeypatch.setattr(module, variable, file if variable == "FILE" else file.parent)
    assert part in message(name) and "then `make docs`" in message(name)


@pytest.mark.usefixtures("fresh")
def test_the_message_names_a_variable_without_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    options = role_vars.load(change_table.ROLES).roles["host"].options
    statement = role_effects.Statement(variables=dict.fromkeys(options.keys() - {"host_packages"}, "none"))
    monkeypatch.setattr(role_effects, "read_statement", lambda roles, role: statement)
    assert message("changes.md") == (
        "roles/host/meta/effects.yml: variables.host_packages: this key is missing\n"
        "  wanted: what a change of the variable does: none, reload, restart, reboot\n"
        "  next:   add it, and a row to tests/changes, then `make docs`"
    )


@pytest.mark.parametrize(("name", "module"), [("policies.md", data), ("rules.md", models)])
def test_the_message_names_a_data_file_that_lacks_a_key(
    name: str, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = module.read
    monkeypatch.setattr(module, "read", lambda file: {k: value for k, value in read(file).items() if k != "checked"})
    page = pages.PAGES[name]
    assert message(name) == (
        f"generate docs/{name} from {page.data}: 'checked' is missing\n"
        f"  wanted: the form of {page.form}\n"
        f"  next:   add or correct it in {page.data}, then `make docs`"
    )
