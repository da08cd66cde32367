"""Makes changes of the change matrix on the nodes of a stack that is up: a preview, a look at the nodes, `pulumi up`, another look.

Needs tests.support.e2e.Road. Called by test_changes.py and tests/e2e/test_e2e_changes.py.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tests.support import forecast_reader, node_changes, records, report_reader
from tests.support.change_table import Row
from tests.support.e2e import STACK, Road
from tests.support.environment import expect_success

# Added to a file whose row does not say more.
TASK = "\n- name: Ensure this file is another one\n  ansible.builtin.debug:\n    msg: one task more\n"
LINE = "\n# one line more\n"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The predictions for one node, its changes, and in words where the two differ."""

    predictions: list[forecast_reader.Prediction]
    changes: node_changes.Changes
    mismatches: list[str]


class Bed:
    """The nodes of one stack, with the changes of its stack file and roles so far."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self._file = road.home / "stacks" / f"Pulumi.{STACK}.yaml"

    def make(self, rows: Mapping[str, Sequence[Row]]) -> dict[str, Outcome]:
        """Make these changes on each of these nodes, all in one run; an outcome includes the mismatches of the way back."""
        pairs = [(name, row) for name, changes in rows.items() for row in changes]
        for name, row in pairs:
            for node, command in ((name, row.first), ("site", row.at_site)):
                if command:
                    self.road.on(node, command)
        with self._restored_after_failure():
            origin = self._files()
            if any(row.needs for _, row in pairs):
                for name, row in pairs:
                    self._vars(name, row.needs)
                self.up()
            before = self._files()
            for name, row in pairs:
                self._change(name, row)
            outcomes = self.run(list(rows))
            if any(row.back for _, row in pairs):
                _write(before)
                for name, outcome in self.run(list(rows)).items():
                    outcomes[name].mismatches.extend(f"on the way back: {text}" for text in outcome.mismatches)
                if self._files() != origin:  # the needs go back, too
                    _write(origin)
                    self.up()
        records.add("changes", {row.name: row.model_dump() for name, row in pairs if not outcomes[name].mismatches})
        return outcomes

    def run(self, names: list[str]) -> dict[str, Outcome]:
        """Review, look, `up`, look again: the predictions are those of the report, and the preview's lines have the same."""
        old_replicas = {name: self._replicas(name) for name in names}
        preview, report = report_reader.review(self.road)
        before = {name: node_changes.look(lambda command, on=name: self.road.on(on, command)) for name in names}
        self.up()
        outcomes = {}
        for name in names:
            replicas = self._replicas(name)
            self.road.wait_for_replicas(name, replicas=replicas)
            after = node_changes.look(lambda command, on=name: self.road.on(on, command))
            predictions, changes = report_reader.predictions(report, name), node_changes.changes(before[name], after)
            assert predictions, f"the report predicts nothing for {name}:\n{preview}"
            mismatches = forecast_reader.mismatches(predictions, changes, {*old_replicas[name], *replicas})
            mismatches += report_reader.disagreement(forecast_reader.predictions(preview, name), predictions)
            outcomes[name] = Outcome(predictions, changes, mismatches)
        return outcomes

    def up(self) -> None:
        """Deploy, without the policies: rows ask for what no stack should have."""
        expect_success(self.road.pulumi("up", "--yes", "--skip-preview"))

    def _change(self, name: str, row: Row) -> None:
        if row.file:
            self._edit(self.road.home / "roles" / row.role / row.file, row)
        elif row.entry is not None:
            self._entries(name, row.variable, row.entry)
        elif row.unset:
            self._vars(name, {row.variable: None})
        else:
            self._vars(name, {row.variable: self._value(name, row)})

    def _value(self, name: str, row: Row) -> Any:
        if row.site:
            (site,) = [item for item in self.road.resources() if item["type"] == "lab:index:Site"]
            return site["outputs"]["vars"][row.site]
        if row.from_node:
            output = self.road.on(name, row.from_node)
            return json.loads(output) if output.startswith("{") else output
        return row.to

    def _edit(self, file: pathlib.Path, row: Row) -> None:
        text = file.read_text()
        if row.put:
            assert row.put[0] in text, f"{row.name}: {row.put[0]!r} is not in the file"
            text = text.replace(row.put[0], row.put[1], 1)
        else:
            text += row.add or (TASK if file.parent.name in ("tasks", "handlers") else LINE)
        file.write_text(text)

    def _vars(self, name: str, values: Mapping[str, Any]) -> None:
        """Give variables of one machine these values, whatever the stack says; None removes one from both."""
        with self._stack() as stack:
            for variable, value in values.items():
                own = stack["glm-fleet:nodes"]["machines"][name].setdefault("vars", {})
                for layer in (own, stack["glm-fleet:vars"]) if value is None or isinstance(value, dict) else (own,):
                    layer.pop(variable, None)
                if value is not None:
                    own[variable] = value

    def _entries(self, name: str, variable: str, entries: Mapping[str, Any]) -> None:
        """Change entries of a dictionary of one machine; None removes one from the machine's and the stack's."""
        with self._stack() as stack:
            own = stack["glm-fleet:nodes"]["machines"][name].setdefault("vars", {}).setdefault(variable, {})
            for key, value in entries.items():
                if value is None:
                    own.pop(key, None)
                    stack["glm-fleet:vars"].get(variable, {}).pop(key, None)
                else:
                    own[key] = value

    def _replicas(self, name: str) -> list[str]:
        with self._stack() as stack:
            own = stack["glm-fleet:nodes"]["machines"][name].get("vars", {})
            replicas = own.get("vllm_replicas") or stack["glm-fleet:vars"]["vllm_replicas"]
        return [replica["name"] for replica in replicas]

    @contextlib.contextmanager
    def _stack(self) -> Iterator[dict[str, Any]]:
        """Yield the stack file's settings, and write their changes back."""
        text = self._file.read_text()
        stack = yaml.safe_load(text)
        yield stack["config"]
        if stack != yaml.safe_load(text):
            self._file.write_text(yaml.safe_dump(stack, sort_keys=False))

    @contextlib.contextmanager
    def _restored_after_failure(self) -> Iterator[None]:
        """Where anything fails, restore the stack file, the roles and the nodes."""
        before = self._files()
        try:
            yield
        except AssertionError as error:
            _write(before)
            try:
                self.up()
            except AssertionError as more:
                error.add_note(f"and the state before could not be restored: {more}")
            raise

    def _files(self) -> dict[pathlib.Path, bytes]:
        """Return the stack file and the roles as they are now."""
        roles = self.road.home / "roles"
        return {file: file.read_bytes() for file in (self._file, *roles.rglob("*")) if file.is_file()}


def _write(files: Mapping[pathlib.Path, bytes]) -> None:
    for file, content in files.items():
        if file.read_bytes() != content:
            file.write_bytes(content)


NODE = "glm-1"
