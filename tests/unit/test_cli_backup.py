"""`fleet backup`: the timer that it writes is one that systemd accepts; `fleet show` says how old the last backup is."""

import datetime
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click import testing

from fleet.cli import backup_age, backup_timer, main

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "cli_backup"
NOW = datetime.datetime(2026, 11, 30, 15, 0, tzinfo=datetime.UTC)
SAVED = "2026-11-30T11:59:00.123456789Z"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose path has a space and a per cent sign, with the stack prod."""
    project = tmp_path / "check out 5%"
    (project / "stacks").mkdir(parents=True)
    (project / "bootstrap").mkdir()
    (project / "Pulumi.yaml").touch()
    shutil.copy(ROOT / "stacks" / "Pulumi.prod.yaml", project / "stacks")
    monkeypatch.chdir(project)
    for name in ("FLEET_STATE", *backup_timer.CHOICES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(backup_timer, "folder", lambda: tmp_path / "units")
    return project


def run(*words: str, code: int = 0) -> str:
    result = testing.CliRunner().invoke(main.main, ["backup", "-s", "prod", *words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def script(project: Path, text: str) -> None:
    file = project / "bootstrap" / "backup.sh"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_the_timer_is_written_and_shown_with_what_starts_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    output = run("--schedule", "daily", "--to", "s3://fleet/backups")
    assert output.replace(str(tmp_path), "/home/me") == (GOLDEN / "timer.txt").read_text()
    for name in ("service", "timer"):
        assert (tmp_path / "units" / f"glm-fleet-backup-prod.{name}").read_text() in output


def test_the_timer_has_the_backend_and_the_passphrase_that_the_user_chose(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_BACKEND", "s3://states?region=a")
    monkeypatch.setenv("FLEET_PASSPHRASE_FILE", "/media/my key/$5")
    output = run("--schedule", "daily")
    assert "\nEnvironment=FLEET_BACKEND=s3://states?region=a\n" in output
    assert '\nEnvironment="FLEET_PASSPHRASE_FILE=/media/my key/$5"\n' in output
    assert "AWS_ACCESS_KEY_ID" in output, "the backend needs credentials, too"


@pytest.mark.exhaustive
@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_units(project: Path, tmp_path: Path) -> None:
    script(project, "exit 0")
    run("--schedule", "*-*-* 02:00", "--to", str(project / "the backups"))
    units = [str(path) for path in sorted((tmp_path / "units").iterdir())]
    analysis = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    mentions = [line for line in analysis.stderr.splitlines() if "glm-fleet-backup" in line]
    assert (analysis.returncode, mentions) == (0, [])


def refused(folder: Path, schedule: str) -> None:
    """Require that a schedule is refused, and that nothing is written."""
    assert "wanted: daily, hourly, or a calendar" in run("--schedule", schedule, code=1)
    assert not (folder / "units").exists()


@pytest.mark.exhaustive
@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("schedule", ["soonish", "*-*-* 99:00"])
def test_a_schedule_that_systemd_does_not_know_is_refused(project: Path, tmp_path: Path, schedule: str) -> None:
    refused(tmp_path, schedule)


@pytest.mark.parametrize("schedule", ["daily\nExecStart=/bin/sh", "$(id)", "%i"])
def test_a_schedule_with_other_signs_is_refused_without_systemd(project: Path, tmp_path: Path, schedule: str) -> None:
    refused(tmp_path, schedule)


def test_without_a_schedule_the_backup_is_made_now_and_its_failure_is_the_verb_s(project: Path) -> None:
    script(project, 'echo "$#:$1:$2" >called; exit 3')
    run("--to", "a folder", code=3)
    assert (project / "called").read_text() == f"2:prod:{project}/a folder\n"
    run(code=3)
    assert (project / "called").read_text() == "1:prod:\n"


@pytest.mark.parametrize(
    ("made", "saved", "line"),
    [
        ("2026-11-30T12:00:00Z", SAVED, "last backup  2026-11-30 12:00 UTC, 3 h ago: s3://fleet/b"),
        ("2026-11-30T14:50:00Z", SAVED, "last backup  2026-11-30 14:50 UTC, 10 min ago: s3://fleet/b"),
        ("2026-11-20T14:50:00Z", SAVED, "last backup  2026-11-20 14:50 UTC, 10 days ago: s3://fleet/b"),
        (
            "2026-11-30T12:00:00Z",
            "2026-11-30T13:59:00.5+01:00",
            "last backup  2026-11-30 12:00 UTC, 3 h ago: s3://fleet/b\n  older than the last `up`: `fleet backup -s prod`",
        ),
    ],
)
def test_show_says_how_old_the_last_backup_is_and_whether_an_up_was_later(
    project: Path, made: str, saved: str, line: str
) -> None:
    folder = project / ".pulumi" / "last-backup"
    folder.mkdir(parents=True)
    (folder / "prod.json").write_text(backup_age.to_json(made, SAVED, "s3://fleet/b"))
    assert backup_age.line("prod", saved, NOW) == line


@pytest.mark.parametrize("content", ["", "{", '{"made": "soon", "state": "x", "place": ""}', "[]"])
def test_a_record_that_is_none_counts_as_no_backup(project: Path, content: str) -> None:
    assert backup_age.line("prod", SAVED, NOW) == "last backup  none is known on this machine: `fleet backup -s prod`"
    folder = project / ".pulumi" / "last-backup"
    folder.mkdir(parents=True)
    (folder / "prod.json").write_text(content)
    assert backup_age.line("prod", SAVED, NOW).startswith("last backup  none is known")
