"""The change matrix: each part of a role has a row, and the tests read and compare the lines of a preview rightly.

That a prediction comes true is a claim of tests/changes and tests/e2e.
"""

import collections
import datetime
from pathlib import Path

import pytest

from fleet.stack import resource_roles, role_digest, role_vars, settings, stack_file, validate
from tests.support import change_table, forecast_reader
from tests.support.forecast_reader import Prediction
from tests.support.node_changes import Changes, Look, changes

GOLDEN = Path(__file__).parent / "golden" / "impact_forecast"
ROLES = role_vars.load(change_table.ROLES)
NAMES = (*ROLES.roles, resource_roles.HELPER)


def changed(role: str, part: str) -> set[str]:
    return {getattr(row, part) for row in change_table.load() if row.role == role} - {""}


@pytest.mark.parametrize("role", ROLES.roles)
def test_every_variable_has_a_row(role: str) -> None:
    rows, options = changed(role, "variable"), set(ROLES.roles[role].options)
    assert options - rows == set(), f"add a row that changes it to tests/changes/{role}.yml"
    assert rows - options == set(), f"no such variable: remove its row from tests/changes/{role}.yml"


@pytest.mark.parametrize("role", NAMES)
def test_every_file_has_a_row(role: str) -> None:
    lines = role_digest.listing(change_table.ROLES / role).splitlines()
    listed = {line.partition("  ")[2].partition(": ")[0] for line in lines}
    rows = changed(role, "file")
    assert listed - rows == set(), f"add a row that changes it to tests/changes/{role}.yml"
    assert rows - listed == set(), f"no such file: remove its row from tests/changes/{role}.yml"


def test_no_two_rows_have_one_name() -> None:
    twice = [name for name, count in collections.Counter(row.name for row in change_table.load()).items() if count > 1]
    assert twice == [], "tell the rows apart by `kind`"


def test_a_row_changes_one_thing_in_one_way() -> None:
    for row in change_table.load():
        ways = [
            row.to is not None,
            row.entry is not None,
            row.unset,
            *map(bool, (row.from_node, row.site, row.by, row.never)),
        ]
        assert bool(row.variable) is not bool(row.file), f"{row.name}: `variable` or `file`"
        rule = "a variable has one of to, from_node, site, entry, unset, by, never; a file none of them but never"
        assert sum(ways) == (1 if row.variable or row.never else 0), f"{row.name}: {rule}"
        assert not row.file or not (row.add and row.put), f"{row.name}: `add` or `put`"


def test_a_row_that_names_another_one_names_a_row_that_exists() -> None:
    names, rows = {row.name for row in change_table.changes()}, [row for row in change_table.load() if row.by]
    assert [row.by for row in rows if row.by not in names] == [], "`by` names a row of tests/changes"
    rule = "the row of a variable in SET_BY_PROGRAM (fleet/stack/resource_roles.py) has `by` or `never`, and no other has `by`"
    assert {row.variable for row in rows} <= set(role_vars.SET_BY_PROGRAM), rule
    made = {row.variable for row in change_table.changes()}
    assert not made & set(role_vars.SET_BY_PROGRAM), rule


def test_a_file_that_a_row_edits_has_the_text_that_it_replaces() -> None:
    edits = [(change_table.ROLES / row.role / row.file, row.put) for row in change_table.changes() if row.put]
    missing = [(str(file), put) for file, put in edits if put[0] not in file.read_text()]
    assert missing == [], "the file no longer has the first text of `put`: correct the row in tests/changes"


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.txt")), ids=lambda path: path.stem)
def test_the_reader_reads_every_line_that_a_preview_may_end_with(golden: Path) -> None:
    lines = [line for line in golden.read_text().splitlines() if not line.startswith("  ")]
    for line in lines:
        assert forecast_reader.LINE.fullmatch(line.partition(": ")[2]), (
            f"tests/support/forecast_reader.py reads it: {line}"
        )


@pytest.mark.parametrize(
    ("line", "forecast"),
    [
        ("glm-1: nothing restarts, about 9 s: a 1 -> 2", Prediction("nothing restarts", False, (), "a 1 -> 2")),
        ("glm-1: may reboot, not measured yet: a: b", Prediction("reboot", True, (), "a: b")),
        (
            "glm-2, glm-1: restart glm-0, glm-1, about 1 s each: a",
            Prediction("restart", False, ("glm-0", "glm-1"), "a"),
        ),
        ("glm-1: reload docker.service, in the same run: a", Prediction("reload", False, ("docker.service",), "a")),
    ],
)
def test_the_reader_reads_a_line_about_a_node(line: str, forecast: Prediction) -> None:
    preview = f"Previewing\n\nDiagnostics:\n  pulumi:pulumi:Stack:\n    {line}\n\n\nOutputs:\n    glm-1: {{\n"
    assert forecast_reader.predictions(preview, "glm-1") == [forecast]
    assert forecast_reader.predictions(preview, "glm-3") == []


NOTHING = Prediction("nothing restarts", False, (), "")
ONE, MAYBE = Prediction("restart", False, ("glm-0",), ""), Prediction("restart", True, ("glm-0",), "")
DAEMON = Prediction("restart", False, ("docker.service and every replica",), "")
RELOAD = Prediction("reload", False, ("docker.service",), "")
REBOOT, MAY_REBOOT = Prediction("reboot", False, (), ""), Prediction("reboot", True, (), "")
QUIET, REBOOTED = Changes(False), Changes(True)
ZERO, BOTH = (
    Changes(False, frozenset({"glm-0.service"})),
    Changes(False, frozenset({"glm-0.service", "glm-1.service"})),
)
ALL = Changes(False, frozenset({"docker.service", "glm-0.service", "glm-1.service"}))
RELOADED = Changes(False, frozenset(), frozenset({"docker.service"}))


@pytest.mark.parametrize(
    ("forecast", "events", "wrong"),
    [
        ([NOTHING], QUIET, []),
        ([ONE], ZERO, []),
        ([DAEMON], ALL, []),
        ([RELOAD, NOTHING], RELOADED, []),
        ([REBOOT, ONE], REBOOTED, []),
        ([Prediction("start", False, ("glm-0",), "")], ZERO, []),
        ([Prediction("stop", False, ("glm-0",), "")], ZERO, []),
        ([MAYBE], QUIET, []),
        ([MAYBE], ZERO, []),
        ([MAY_REBOOT], QUIET, []),
        ([MAY_REBOOT], REBOOTED, []),
        ([NOTHING], ZERO, ["happened, and was not foretold: restart glm-0.service"]),
        ([NOTHING], REBOOTED, ["happened, and was not foretold: reboot the node"]),
        ([MAYBE], BOTH, ["happened, and was not foretold: restart glm-1.service"]),
        ([ONE], QUIET, ["foretold, and did not happen: restart glm-0.service"]),
        ([ONE], BOTH, ["happened, and was not foretold: restart glm-1.service"]),
        ([DAEMON], BOTH, ["foretold, and did not happen: restart docker.service"]),
        ([REBOOT], QUIET, ["foretold, and did not happen: reboot the node"]),
        ([RELOAD], ALL, ["happened, and was not foretold: restart docker.service, glm-0.service, glm-1.service", "foretold, and did not happen: reload docker.service"]),
    ],
)  # fmt: skip
def test_a_forecast_is_compared_with_what_happened(
    forecast: list[Prediction], events: Changes, wrong: list[str]
) -> None:
    assert forecast_reader.mismatches(forecast, events, ["glm-0", "glm-1"]) == wrong


BEFORE = Look("a", {"docker.service": "1", "glm-0.service": "2"}, {"docker.service": 1}, {"glm-0": "c"})


@pytest.mark.parametrize(
    ("claim", "after", "events"),
    [
        ("nothing", BEFORE, QUIET),
        ("another boot", Look("b", {}, {}, {}), REBOOTED),
        (
            "a restarted replica",
            Look("a", {**BEFORE.running, "glm-0.service": "3"}, BEFORE.reloads, {"glm-0": "d"}),
            ZERO,
        ),
        ("a reload", Look("a", BEFORE.running, {"docker.service": 2}, BEFORE.containers), RELOADED),
        ("a stopped service", Look("a", {"docker.service": "1"}, BEFORE.reloads, {}), ZERO),
    ],
)
def test_what_happened_is_what_differs_between_two_looks(claim: str, after: Look, events: Changes) -> None:
    assert changes(BEFORE, after) == events, claim


def test_a_container_that_was_replaced_without_its_unit_is_an_error() -> None:
    with pytest.raises(AssertionError, match="another container, and the unit ran on"):
        changes(BEFORE, Look("a", BEFORE.running, BEFORE.reloads, {"glm-0": "d"}))


def test_no_row_has_a_finding_of_the_rules() -> None:
    stack = stack_file.read("lab", change_table.ROLES.parent).model_dump(mode="json", exclude_unset=True)
    (nodes,) = stack["nodes"]
    del stack["gateway"]
    for row in change_table.load():
        own = {name: value for name, value in row.needs.items() if value is not None}
        if row.variable and row.to is not None and row.entry is None:
            own[row.variable] = row.to
        raw = {**stack, "nodes": {**nodes, "machines": {"glm-1": {"system": "ubuntu-24.04", "vars": own}}}}
        findings = validate.validate(settings.read(raw, row.name), ROLES, row.name, datetime.date(2026, 11, 26))
        assert [str(finding) for finding in (*findings.mistakes, *findings.warnings)] == []
