"""Makes rows of the change matrix on nodes of a road that stands: the real preview before, the real `pulumi up`, a look at the nodes around it.

Needs tests.support.e2e.Road with a stack that is up. Called by test_changes.py and tests/e2e/test_e2e_changes.py.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tests.support import forecast_reader, node_changes, records
from tests.support.change_table import Row
from tests.support.e2e import STACK, UP, Road

# What is added to a file whose row does not say more.
TASK = "\n- name: Ensure this file is another one\n  ansible.builtin.debug:\n    msg: one task more\n"
LINE = "\n# one line more\n"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was foretold for one node, what it then showed, and in words where the two differ."""

    foretold: list[forecast_reader.Foretold]
    happened: node_changes.Happened
    wrong: list[str]


class Bed:
    """The nodes of one road, and what of its stack file and roles was changed so far."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self._file = road.home / "stacks" / f"Pulumi.{STACK}.yaml"

    def make(self, rows: Mapping[str, Sequence[Row]]) -> dict[str, Outcome]:
        """Make these changes on each of these nodes, all in one run. What came of the way back is added."""
        each = [(name, row) for name, some in rows.items() for row in some]
        for name, row in each:
            for node, command in ((name, row.first), ("site", row.at_site)):
                if command:
                    self.road.on(node, command)
        with self._mended():
            origin = self._files()
            if any(row.needs for _, row in each):
                for name, row in each:
                    self._vars(name, row.needs)
                self.up()
            before = self._files()
            for name, row in each:
                self._change(name, row)
            outcomes = self.run(list(rows))
            if any(row.back for _, row in each):
                _write(before)
                for name, outcome in self.run(list(rows)).items():
                    outcomes[name].wrong.extend(f"on the way back: {text}" for text in outcome.wrong)
                if self._files() != origin:  # what was needed goes back, too
                    _write(origin)
                    self.up()
        shown = {row.name: row.model_dump() for name, row in each if not outcomes[name].wrong}
        records.add("changes", shown)
        return outcomes

    def run(self, names: list[str]) -> dict[str, Outcome]:
        """Preview, look, `up`, look again."""
        known = {name: self._replicas(name) for name in names}
        previewed = self.road.pulumi("preview")
        assert previewed.returncode == 0, previewed.stdout
        before = {name: node_changes.look(lambda command, on=name: self.road.on(on, command)) for name in names}
        self.up()
        outcomes = {}
        for name in names:
            replicas = self._replicas(name)
            self.road.serves_again(name, replicas=replicas)
            after = node_changes.look(lambda command, on=name: self.road.on(on, command))
            told, seen = forecast_reader.foretold(previewed.stdout, name), node_changes.happened(before[name], after)
            assert told, f"nothing is foretold for {name}:\n{previewed.stdout}"
            outcomes[name] = Outcome(told, seen, forecast_reader.wrong(told, seen, {*known[name], *replicas}))
        return outcomes

    def up(self) -> None:
        """Deploy, without the policies: rows ask for what no stack should have."""
        done = self.road.run(
            "pulumi", "up", "--yes", "--skip-preview", "--stack", STACK, "--color", "never", timeout=UP
        )
        assert done.returncode == 0, done.stdout

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
            (site,) = [one for one in self.road.resources() if one["type"] == "lab:index:Site"]
            return site["outputs"]["vars"][row.site]
        if row.told:
            said = self.road.on(name, row.told)
            return json.loads(said) if said.startswith("{") else said
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
        """Give variables of one machine these values, whatever the stack says; None takes one out of both."""
        with self._stack() as stack:
            for variable, value in values.items():
                own = stack["glm-fleet:nodes"]["machines"][name].setdefault("vars", {})
                for layer in (own, stack["glm-fleet:vars"]) if value is None or isinstance(value, dict) else (own,):
                    layer.pop(variable, None)
                if value is not None:
                    own[variable] = value

    def _entries(self, name: str, variable: str, entries: Mapping[str, Any]) -> None:
        """Change entries of a dictionary of one machine; None takes one out of the machine's and the stack's."""
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
            found = own.get("vllm_replicas") or stack["glm-fleet:vars"]["vllm_replicas"]
        return [replica["name"] for replica in found]

    @contextlib.contextmanager
    def _stack(self) -> Iterator[dict[str, Any]]:
        """The stack file's settings, written back where they were changed."""
        text = self._file.read_text()
        told = yaml.safe_load(text)
        yield told["config"]
        if told != yaml.safe_load(text):
            self._file.write_text(yaml.safe_dump(told, sort_keys=False))

    @contextlib.contextmanager
    def _mended(self) -> Iterator[None]:
        """Where anything goes wrong, bring the stack file, the roles and the nodes back to what they were before."""
        before = self._files()
        try:
            yield
        except AssertionError as error:
            _write(before)
            try:
                self.up()
            except AssertionError as more:
                error.add_note(f"and what was there before could not be brought back: {more}")
            raise

    def _files(self) -> dict[pathlib.Path, bytes]:
        """The stack file and the roles as they are now."""
        roles = self.road.home / "roles"
        return {file: file.read_bytes() for file in (self._file, *roles.rglob("*")) if file.is_file()}


def _write(files: Mapping[pathlib.Path, bytes]) -> None:
    for file, content in files.items():
        if file.read_bytes() != content:
            file.write_bytes(content)


NODE = "glm-1"
