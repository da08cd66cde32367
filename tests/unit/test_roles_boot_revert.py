"""roles/host/files/boot_revert.py: a host goes back to its earlier boot configuration unless a run confirms, whatever cuts it off.

The host is a folder: systemctl and update-grub are stand-ins. tests/roles/test_host_switch.py kills a real run on a lab node.
"""

import importlib.util
import json
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "roles" / "host" / "files" / "boot_revert.py"
NEW = "GRUB_CMDLINE_LINUX=iommu=pt\n"


class PowerLoss(BaseException):
    """The host loses its power before a step."""


class Host:
    """A host as boot_revert.py sees it. `grub`: the rendered configuration; `kernel`: what the running kernel was started with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.boots, self.reboots, self.steps = folder, 1, 0, 0
        self.lost_at: int | None = None
        self.enabled = False
        self.drop_in = folder / "etc" / "90-fleet.cfg"
        for path in (self.drop_in.parent, folder / "units", folder / "fleet"):
            path.mkdir()
        (folder / "boot_id").write_text("1\n")
        self.grub = self.kernel = "absent"
        spec = importlib.util.spec_from_file_location("boot_revert", SCRIPT)
        assert spec and spec.loader
        self.script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.script)
        self._stand_in(self.script)

    def _stand_in(self, script: types.ModuleType) -> None:
        script.FLEET = self.folder / "fleet"
        script.FOLDER = script.FLEET / "boot-revert"
        script.ARMED, script.RECORD = script.FOLDER / "armed.json", script.FLEET / "boot-reverted.json"
        script.MARKER, script.UNITS = script.FLEET / "reboot-attempted", self.folder / "units"
        script.BOOT_ID = self.folder / "boot_id"
        script.run = self.step(self.run)
        for name in ("write", "restore", "disarm"):
            setattr(script, name, self.step(getattr(script, name)))

    def step(self, function: Any) -> Any:
        """Return a function before which the power may be lost."""

        def wrapped(*words: Any, **options: Any) -> Any:
            self.steps += 1
            if self.steps == self.lost_at:
                raise PowerLoss
            return function(*words, **options)

        return wrapped

    def run(self, *command: str, check: bool = True) -> str:
        if command[0].endswith("update-grub"):
            self.grub = self.content
        elif command[1] in ("enable", "disable"):
            self.enabled = command[1] == "enable"
        elif command[-1] == "reboot":
            self.reboots += 1
            self.boot()
        return "networking.service loaded failed failed\n" if command[1:2] == ("list-units",) else ""

    @property
    def content(self) -> str:
        return self.drop_in.read_text() if self.drop_in.exists() else "absent"

    def boot(self) -> None:
        self.boots += 1
        (self.folder / "boot_id").write_text(f"{self.boots}\n")
        self.kernel = self.grub

    def arm(self) -> None:
        request = {"program": SCRIPT.read_text(), "units": dict.fromkeys((self.script.TIMER, self.script.SERVICE), "x")}
        self.script.arm({**request, "files": [str(self.drop_in)], "words": ["iommu=pt"], "timeout": 900})

    def change(self) -> None:
        """Change the kernel arguments as a run does, up to its reboot."""
        self.arm()
        self.drop_in.write_text(NEW)
        self.run("update-grub")

    def timer(self) -> None:
        """Let the time pass without a confirmation in this boot."""
        if self.enabled:
            self.script.main("revert")

    @property
    def left(self) -> list[str]:
        """What an armed switch has on the host."""
        return (
            sorted(path.name for path in (self.folder / "units").iterdir())
            + ["boot-revert"] * self.script.FOLDER.exists()
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("earlier", [None, "GRUB_CMDLINE_LINUX=quiet\n"])
def test_without_a_confirmation_the_host_goes_back_and_reboots_once(host: Host, earlier: str | None) -> None:
    if earlier:
        host.drop_in.write_text(earlier)
        host.drop_in.chmod(0o640)
    host.change()
    host.script.MARKER.touch()
    host.boot()
    assert host.kernel == NEW
    host.timer()
    host.timer()
    assert host.kernel == host.content == (earlier or "absent") and host.reboots == 1
    assert not earlier or host.drop_in.stat().st_mode & 0o777 == 0o640
    assert host.left == [] and not host.enabled
    assert not host.script.MARKER.exists(), "the next run would report a reboot that did not help"


def test_the_record_says_what_was_reverted_when_and_what_had_failed(host: Host) -> None:
    host.change()
    host.boot()
    host.timer()
    record = json.loads(host.script.RECORD.read_text())
    assert record.pop("when").startswith("2")
    assert record == {
        "words": ["iommu=pt"],
        "timeout": 900,
        "failed": ["networking.service"],
        "files": [str(host.drop_in)],
        "reported": False,
    }


def test_a_confirmed_change_stays_and_leaves_nothing(host: Host) -> None:
    host.change()
    host.boot()
    assert host.script.confirm() is None
    host.timer()
    host.script.main("revert")  # the timer was faster, and waited for the confirmation
    assert (host.kernel, host.content, host.reboots, host.left) == (NEW, NEW, 0, [])
    assert list((host.folder / "fleet").iterdir()) == []


def test_before_the_boot_nothing_is_reverted(host: Host) -> None:
    host.change()
    host.timer()
    assert host.content == NEW and host.reboots == 0 and host.enabled


def test_a_second_run_while_armed_keeps_the_files_from_before_the_first(host: Host) -> None:
    host.change()
    host.change()
    host.boot()
    host.timer()
    assert host.kernel == "absent"


def test_a_run_that_ended_before_its_change_costs_no_reboot_and_no_record(host: Host) -> None:
    host.arm()
    host.boot()
    host.timer()
    assert (host.reboots, host.left) == (0, []) and not host.script.RECORD.exists()


def test_a_confirmation_after_the_revert_gets_the_record_and_reports_it_once(host: Host) -> None:
    host.change()
    host.boot()
    host.timer()
    assert host.script.confirm()["reported"] is False
    assert json.loads(host.script.RECORD.read_text())["reported"] is True


def test_the_next_attempt_removes_the_record_of_the_last(host: Host) -> None:
    host.change()
    host.boot()
    host.timer()
    host.arm()
    assert not host.script.RECORD.exists()


def test_a_host_whose_grub_fails_stays_armed(host: Host) -> None:
    host.change()
    host.boot()
    run, host.script.run = host.script.run, lambda *command, **_: exit("disk full") if "grub" in command[0] else ""
    with pytest.raises(SystemExit, match="disk full"):
        host.timer()
    host.script.run = run
    host.timer()  # RestartSec of the service
    assert host.kernel == "absent" and host.reboots == 1


STEPS = range(1, 18)


@pytest.mark.parametrize("step", STEPS)
def test_a_revert_survives_a_power_loss_at_each_step_and_reboots_once(host: Host, step: int) -> None:
    host.change()
    host.boot()
    host.steps, host.lost_at, reboots = 0, step, 1
    try:
        host.timer()
    except PowerLoss:
        armed = host.script.load(host.script.ARMED)
        reboots = 0 if armed is None or armed["rendered"] else 1  # the boot after the power loss is the one
        host.boot()
    assert step < STEPS[-1] or host.steps < step, "add a number to STEPS: a revert has more steps"
    host.lost_at = None
    host.timer()
    assert host.kernel == host.content == "absent" and host.reboots == reboots
    assert json.loads(host.script.RECORD.read_text())["words"] == ["iommu=pt"]
    host.script.confirm()  # of the next run, which finds what the power loss has left
    assert host.left == []


@pytest.mark.parametrize("step", range(1, 9))
def test_a_power_loss_while_it_is_armed_changes_nothing(host: Host, step: int) -> None:
    host.steps, host.lost_at = 0, step
    try:
        host.arm()
    except PowerLoss:
        host.boot()
    host.lost_at = None
    host.timer()
    assert (host.content, host.reboots) == ("absent", 0) and not host.script.RECORD.exists()
    host.arm()  # the next run
    host.script.confirm()
    assert host.left == []


def test_the_role_the_preflight_and_the_teardown_know_the_program_s_paths() -> None:
    from fleet.provider import teardown

    spec = importlib.util.spec_from_file_location("boot_revert", SCRIPT)
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    variables = yaml.safe_load((ROOT / "roles" / "host" / "vars" / "main.yml").read_text())
    assert variables["_host_armed_file"] == str(script.ARMED) and variables["_host_marker"] == str(script.MARKER)
    assert variables["_host_reverted_file"] == str(script.RECORD)
    facts = (ROOT / "fleet" / "preflight" / "on_node_facts.py").read_text()
    assert str(script.ARMED) in facts and str(script.RECORD) in facts
    assert script.TIMER == teardown.SWITCH_UNIT
    assert {str(script.FOLDER), str(script.RECORD), str(script.MARKER)} < {*teardown.SWITCH_FILES}
    unit = (ROOT / "roles" / "host" / "templates" / f"{script.SERVICE}.j2").read_text()
    assert f"{script.FOLDER}/boot_revert.py revert" in unit
