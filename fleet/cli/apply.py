"""`fleet apply`: deploy what a report has, after reading the same facts again. fleet.review compares, signature.py checks who approved.

The provider holds the update to the report, too: fleet/provider/approval.py.
"""

import sys
from pathlib import Path

import click

from fleet import errors
from fleet.cli import common, preview, signature
from fleet.review import moved, report
from fleet.stack import stack_file

EXISTING = click.Path(path_type=Path, dir_okay=False, exists=True)
MOVED, SHOWN = 14, 40


@click.command("apply")
@click.argument("file", type=EXISTING)
@click.option(
    "--signature",
    "signed",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its signature: FILE.sig without this option.",
)
@common.exit_on_error()
def command(file: Path, signed: Path | None) -> None:
    """Deploy a change exactly as a report of `fleet review` has it, or refuse it.

    Reads the hosts again, and compares effects and facts with the report: what moved is listed, and nothing is changed (exit code 14). Where the
    stack file has `review.signers`, one of these must have signed the report.
    """
    text = file.read_text()
    approved = report.read(text, str(file))
    settings = stack_file.read(approved.stack.rpartition("/")[2], common.root())
    if settings.review:
        who = signature.signer(text, file, signed or Path(f"{file}.sig"), common.root() / settings.review.signers)
        common.progress(f"approved by {who}")
    if approved.verdict == report.REFUSED:
        raise errors.NotApproved(
            doing=f"apply {file}",
            seen="a policy or a failure refused this change",
            next=f"`fleet review --read {file}` shows why",
        )
    now = preview.report(approved.stack, approved.evidence.hosts)
    if moves := moved.lines(approved, now):
        shown = [*moves[:SHOWN], *([f"and {len(moves) - SHOWN} more"] if len(moves) > SHOWN else [])]
        click.echo(str(_moved(file, approved, shown)), err=True)
        sys.exit(MOVED)
    if approved.verdict == report.NOTHING:
        click.echo(f"{approved.stack}: nothing to do, as the report has it")
        return
    sys.exit(preview.update(approved.stack, text))


def _moved(file: Path, approved: report.Report, moves: list[str]) -> errors.NotApproved:
    seen = "\n".join(["it is another change now; nothing was touched", *moves])
    wanted = f"effects {approved.effects_digest} from facts {approved.facts_digest}"
    next_step = f"`fleet review -s {approved.stack} --against {file} --out NEW`, approve that, then `fleet apply NEW`"
    return errors.NotApproved(doing=f"apply {file}", seen=seen, wanted=wanted, next=next_step)
