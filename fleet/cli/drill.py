"""`fleet drill`: rebuild one node on purpose, and measure it. Drains it, tears it down, sets it up again, and compares before and after.

Runs `pulumi up` three times: with the machine released, without it, and as the stack file has it. The first two use a copy of the stack file, which
stays as it is: after an interrupted drill, a plain `up` sets the node up again. drill_draft.py has the copies, drill_report.py the report.
"""

import datetime
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import yaml

from fleet import errors, findings, printable, ssh
from fleet.cli import common, drill_identity, drill_report, node_rotation, stack_outputs
from fleet.cli.drill_report import Report
from fleet.managed import owner, rotation
from fleet.sources.ssh.form import Reached
from fleet.stack import drill_draft, settings, stack_file, user_file

LOOK = 60.0  # seconds for a look at the machine
KINDS = ("Host", "Image", "Weights", "Serving", "Gateway")  # whose runs take seconds by role


@click.command("drill")
@common.stack_option
@click.argument("node")
@click.option("--yes", is_flag=True, help="Begin without asking.")
@common.exit_on_error(2)
def command(stack: str, node: str, yes: bool) -> None:
    """Rebuild one node of a stack that serves, and measure how long that takes.

    Drains the node, tears it down, sets it up again with its probes, and requires a preview with a refresh that shows nothing. Compares the
    seconds of each phase with `budgets` of glm-fleet:drill. The report is kept beside the evidence of the probes (docs/drill.md).

    Exit code 1 when a budget is broken, or something is not as before; 2 when the drill stopped.
    """
    loaded = stack_file.read(stack, common.root())
    drill_draft.refuse(loaded, node)
    drill = Drill(stack, node, loaded)
    left = drill.budget()
    common.progress(f"{node} will be drained, torn down and set up again; {left} meanwhile")
    if not yes and not click.confirm("Begin"):
        click.echo("nothing was done")
        sys.exit(2)
    before = drill_report.earlier(stack, node)
    try:
        drill.run()
    finally:
        page = drill_report.write(drill.report, before)
        common.progress(f"report: {page}")
    click.echo("\n".join(drill_report.verdict(drill.report, before)))
    if not drill.report.passed:
        sys.exit(1)


class Drill:
    """One drill: its node, its report, its steps. Each step raises FleetError, whose first line the report then has."""

    def __init__(self, stack: str, node: str, loaded: settings.Settings) -> None:
        self._stack, self._node, self._loaded = stack, node, loaded
        self._file = common.root() / "stacks" / f"Pulumi.{stack}.yaml"
        self._made = not isinstance(loaded.pool(node), Reached)
        now = datetime.datetime.now(datetime.UTC)
        budgets: dict[str, float] = {name: float(seconds) for name, seconds in loaded.drill.budgets.items()}
        self.report = Report(stack=stack, node=node, began=now, commit=_commit(), budgets=budgets)

    def budget(self) -> str:
        """Return how many nodes serve without it, in words. Raises FleetError where `at_once` allows no node more out of service."""
        targets = node_rotation.targets(stack_outputs.outputs(self._stack))
        answers = rotation.looks(targets)
        serving = node_rotation.serving(answers)
        out = [name for name in answers if name not in serving and name != self._node]
        at_once = self._loaded.change.at_once
        left = [name for name in serving if name != self._node]
        if len(out) >= at_once or not left:
            raise errors.FleetError(
                node=self._node,
                doing="drill",
                seen=f"out of service already: {', '.join(out) or 'nothing'}; {len(left)} others serve",
                wanted=f"fewer than {at_once} (`at_once` of glm-fleet:change), and a node that serves meanwhile",
                next=f"`fleet show -s {self._stack}` says why they do not serve",
            )
        return node_rotation.capacity(left, answers)

    def run(self) -> None:
        """Do all steps. The report has what was measured also when one raises FleetError."""
        try:
            self._empty_preview("before the drill")
            resources = stack_outputs.deployed(self._stack)
            identity = self._identity(resources)
            with self._phase("total"):
                with self._phase("drain"):
                    self._drain()
                with self._phase("teardown"):
                    self._tear_down(resources)
                with self._phase("rebuild"):
                    self._up(self._file)
                self.report.phases |= self._roles()
                with self._phase("verify"):
                    self._empty_preview("after the drill", "--refresh")
            after = self._identity(stack_outputs.deployed(self._stack))
            self.report.same = drill_identity.compare(identity, after)
        except (errors.FleetError, KeyboardInterrupt) as error:
            self.report.error = (str(error) or "interrupted").splitlines()[0]
            self._way_back()
            raise

    def _way_back(self) -> None:
        """Say how the node serves again after a drill that stopped."""
        common.progress(f"`pulumi up -s {self._stack} --policy-pack policies` sets {self._node} up again")
        if self._loaded.gateway and "drain" in self.report.phases and "rebuild" not in self.report.phases:
            common.progress(
                f"if it still runs, `fleet undrain -s {self._stack} {self._node}` puts it back into rotation"
            )

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        common.progress(f"{self._node}: {name}")
        began = time.monotonic()
        try:
            yield
        finally:
            self.report.phases[name] = round(time.monotonic() - began, 1)

    def _drain(self) -> None:
        """Take the node out of rotation; without a gateway there is none."""
        if self._loaded.gateway is None:
            return
        target = node_rotation.targets(stack_outputs.outputs(self._stack))[self._node]
        with ssh.connect(target) as connection:
            seconds = self._loaded.change.drain
            rotation.drain(connection, rotation.OPERATOR, seconds, _quiet, threading.Event())

    def _tear_down(self, resources: drill_identity.Resources) -> None:
        content = yaml.safe_load(self._file.read_text())
        machines = self._machines(content)
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / self._file.name
            if self._loaded.pool(self._node).PROTECTED:
                draft.write_text(yaml.safe_dump(drill_draft.released(content, self._node), sort_keys=False))
                self._up(draft)
            absent = drill_draft.absent(content, self._node, machines, findings.today())
            draft.write_text(yaml.safe_dump(absent, sort_keys=False))
            self._up(draft)
        if not self._made:
            self._require_bare(resources)

    def _machines(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of each separate file of machines by its name in the stack file."""
        nodes = content["config"][drill_draft.NODES]
        names = [pool.get("machines") for pool in (nodes if isinstance(nodes, list) else [nodes])]
        return {
            name: user_file.read(self._file.parent / name, f"stacks/{name}", "a mapping of machines")
            for name in names
            if isinstance(name, str)
        }

    def _identity(self, resources: drill_identity.Resources) -> dict[str, str]:
        """Return what must be the same before and after."""
        return drill_identity.of(resources, self._node, self._made) | self._look(resources)

    def _look(self, resources: drill_identity.Resources) -> dict[str, str]:
        """Return the part of it that only the node knows. Raises FleetError where something of it is not there."""
        command = drill_identity.look(resources, self._node)
        with ssh.connect(self._target(resources)) as connection:
            text = connection.run(command, timeout=LOOK).stdout
        seen = drill_identity.on_node(resources, self._node, text)
        if missing := [what for what, word in seen.items() if not word]:
            raise errors.FleetError(
                node=self._node,
                doing="look at what must be the same after the drill",
                seen=f"{' and '.join(missing)}: not there, or of another form",
                wanted="the record of verified weights, and the replicas' units",
                next=f"`fleet verify -s {self._stack} {self._node}` says what differs",
            )
        return seen

    def _target(self, resources: drill_identity.Resources) -> ssh.Target:
        return ssh.Target.from_inputs({**resources["Node"][self._node]["connection"], "name": self._node})

    def _require_bare(self, resources: drill_identity.Resources) -> None:
        """Look on the machine that the owner's mark and the replicas' units are gone."""
        units = shlex.join(drill_identity.units(resources, self._node))
        command = (
            f"ls -d {owner.MARKER} /etc/fleet 2>/dev/null; systemctl list-unit-files --no-legend {units or 'none'}"
        )
        with ssh.connect(self._target(resources)) as connection:
            left = connection.run(command, timeout=LOOK).stdout.strip()
        if left:
            raise errors.FleetError(
                node=self._node,
                doing="look at the bare machine",
                seen=f"the teardown left {printable.short(left)}",
                wanted="a machine without the fleet's files and units (docs/teardown.md)",
                next=f"`pulumi up -s {self._stack} --policy-pack policies` sets it up again",
            )

    def _roles(self) -> dict[str, float]:
        """Return the seconds of the node's runs, by role."""
        resources = stack_outputs.deployed(self._stack)
        runs = (resources.get(kind, {}).get(self._node, {}).get("seconds") or {} for kind in KINDS)
        return {role: round(float(seconds), 1) for run in runs for role, seconds in run.items()}

    def _up(self, content: Path) -> None:
        options = () if content == self._file else ("--config-file", str(content))
        self._pulumi("set up and tear down", "up", "--yes", "--skip-preview", "--policy-pack", "policies", *options)

    def _empty_preview(self, when: str, *more: str) -> None:
        self._pulumi(f"preview {when}", "preview", "--expect-no-changes", "--policy-pack", "policies", *more)

    def _pulumi(self, doing: str, *words: str) -> None:
        """Run pulumi on the stack, its output on stderr. Raises FleetError when it fails."""
        command = ["pulumi", *words, "-s", self._stack]
        if code := subprocess.run(command, cwd=common.root(), stdout=2, check=False).returncode:
            again = f"`pulumi up -s {self._stack} --policy-pack policies` goes on: the stack file is unchanged"
            wanted = "a preview without changes" if words[0] == "preview" else "an update without an error"
            raise errors.FleetError(
                node=self._node, doing=doing, seen=f"`pulumi {words[0]}` ended with {code}", wanted=wanted, next=again
            )


def _quiet(text: str) -> None:
    """Take a note of a drain that nobody reads."""


def _commit() -> str:
    command = ["git", "-C", str(common.root()), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
