"""`fleet backup`: make a backup of a stack now (bootstrap/backup.sh does it), or write the systemd timer that makes one regularly.

backup_timer.py has the units.
"""

import subprocess
import sys
from pathlib import Path

import click

from fleet.cli import backup_timer, common
from fleet.stack import stack_file


@click.command("backup")
@common.stack_option
@click.option("--to", default="", metavar="PLACE", help="A folder, or s3://BUCKET/PREFIX [default: .pulumi/backups].")
@click.option(
    "--schedule", metavar="WHEN", help="Write a systemd timer: daily, hourly, or a calendar as '*-*-* 02:00'."
)
@common.exit_on_error()
def command(stack: str, to: str, schedule: str | None) -> None:
    """Make a backup of a stack, or with --schedule the timer that makes it.

    The timer is the system's for root, else the user's. It writes the units, prints them, and starts nothing. For a bucket,
    .pulumi/backup.env has its credentials for the timer.
    """
    stack_file.read(stack, common.root())
    place = to if to.startswith("s3://") or not to else str(Path(to).absolute())
    if schedule:
        units = backup_timer.units(stack, place, schedule)
        click.echo(backup_timer.write(units, stack, place))
        return
    script = common.root() / "bootstrap" / "backup.sh"
    if code := subprocess.run([str(script), stack, *([place] if place else [])], check=False).returncode:
        sys.exit(code)
