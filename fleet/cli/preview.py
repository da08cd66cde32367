"""Runs a preview with `pulumi` and makes its report; and runs the update that such a report approves.

Needs `pulumi` on PATH, and git for the commit. Called by review.py and apply.py.
"""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from fleet import errors, findings
from fleet.cli import common
from fleet.review import build, events, record
from fleet.review.report import Evidence, Remark, Report, Waiver

# The engine writes its events only with this switch, which the automation API sets, too.
EVENTS = {"PULUMI_DEBUG_COMMANDS": "true", record.RECORDS: "1"}
QUIET = ("--non-interactive", "--suppress-outputs", "--suppress-progress", "--color", "never")
POLICIES = "policies"


def report(stack: str, refresh: bool) -> Report:
    """Return the report of a preview of the stack; `refresh` reads the hosts first. Raises FleetError when no preview begins."""
    root = common.root()
    policies = (root / POLICIES).is_dir()
    with tempfile.TemporaryDirectory(prefix="fleet-review-") as folder:  # readable by this user alone
        log = Path(folder) / "events"
        options = [*(["--refresh"] if refresh else []), *(["--policy-pack", POLICIES] if policies else [])]
        run = _pulumi(stack, ["preview", *QUIET, "--event-log", str(log), *options], EVENTS, subprocess.PIPE)
        if not log.is_file():
            _stack(stack)  # whose mistakes say more
            raise errors.FleetError(
                doing=f"preview stack {stack}",
                seen=(run.stderr.strip().splitlines() or [f"`pulumi preview` ended with {run.returncode}"])[-1],
                next='`pulumi stack ls` shows the stacks; `eval "$(make env)"` sets where Pulumi keeps them',
            )
        with log.open() as lines:
            preview = events.read(lines)
    # Not before: what validates would hold memory beside the preview, and that of a mistaken stack ends at once.
    return build.report(preview, _stack(stack), _evidence(stack, root, refresh), policies)


def update(stack: str, approved: str) -> int:
    """Run the update that a report (its text) approves, with its output on this terminal; return the exit code of `pulumi`."""
    policies = ["--policy-pack", POLICIES] if (common.root() / POLICIES).is_dir() else []
    with tempfile.TemporaryDirectory(prefix="fleet-apply-") as folder:
        file = Path(folder) / "report.json"
        file.write_text(approved)  # a copy: nobody exchanges it while the run reads it
        arguments = [
            "up",
            "--yes",
            "--skip-preview",
            "--refresh",
            "--suppress-outputs",
            "--continue-on-error",
            *policies,
        ]
        return _pulumi(stack, arguments, {record.APPROVED: str(file)}, None).returncode


def _pulumi(
    stack: str, arguments: Sequence[str], environment: Mapping[str, str], output: int | None
) -> subprocess.CompletedProcess[str]:
    """Run `pulumi`; with `output` its text is kept, and else shown."""
    command = ["pulumi", *arguments, "-s", stack]
    try:
        return subprocess.run(
            command,
            cwd=common.root(),
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        todo = '`eval "$(make env)"`, once in each shell'
        raise errors.FleetError(
            doing=f"{arguments[0]} of stack {stack}", seen="no `pulumi` on PATH", next=todo
        ) from None


def _stack(stack: str) -> build.Stack:
    """Return what a report takes from the stack file. Raises SettingsError for a mistake in it."""
    from fleet.stack import validate

    name = stack.rpartition("/")[2]
    settings, roles = common.load_stack(name)
    result = validate.validate(settings, roles, f"stacks/Pulumi.{name}.yaml", findings.today())
    if result.mistakes:
        raise errors.first(result.mistakes)
    known = yaml.safe_load((common.ROOT / POLICIES / "data" / "cves.yml").read_text())["vulnerabilities"]
    return build.Stack(
        stack,
        [Remark(warning.key, str(warning), False) for warning in result.warnings],
        [Waiver(rule, entry.reason, str(entry.expires)) for rule, entry in settings.waivers.items()],
        known,
    )


def _evidence(stack: str, root: Path, refresh: bool) -> Evidence:
    commit, status = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
    file = root / "stacks" / f"Pulumi.{stack.rpartition('/')[2]}.yaml"
    return Evidence(commit, bool(status), hashlib.sha256(file.read_bytes()).hexdigest(), refresh)


def _git(root: Path, *arguments: str) -> str:
    """Return what git prints, "" where there is no repository."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
