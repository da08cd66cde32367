"""Options of daemon.json: those from before our first run stay, those of the stack are expected, later ones are drift."""

import base64
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fleet.ansible import converge
from fleet.drift import Difference
from fleet.managed import daemon_options, managed_set
from fleet.provider.base import Request
from fleet.provider.playbook import Playbook
from fleet.provider.slots import Slots
from tests.support.plugin import Props, urn

READER = Path(__file__).parents[2] / "fleet" / "managed" / "on_node_read.py"
FILE = daemon_options.FILE.removeprefix("file ")
THEIRS = {"proxies": {"http-proxy": "http://192.0.2.1"}, "mtu": 1450}


def read(folder: Path, now: Any, before: Any) -> managed_set.State:
    """Return what the reader reports about a daemon.json; `before` is the baseline's one (None: no such file)."""
    daemon, baseline = folder / "daemon.json", folder / "before.json"
    daemon.write_text(now if isinstance(now, str) else json.dumps(now))
    content = None if before is None else {"content": base64.b64encode(json.dumps(before).encode()).decode()}
    baseline.write_text(json.dumps({"files": {str(daemon): content}}) if before != "no record" else "{}")
    script = READER.read_text().replace(FILE, str(daemon)).replace("/var/lib/fleet/before.json", str(baseline))
    script += f"\nmain(['file {daemon}'])"
    command = [sys.executable, "-I", "-"]
    output = subprocess.run(command, input=script, capture_output=True, text=True, check=True).stdout
    state: managed_set.State = json.loads(output.replace(str(daemon), FILE))
    return state


@pytest.mark.parametrize(
    ("now", "before", "later"),
    [
        ({**THEIRS, "log-driver": "local"}, THEIRS, ["log-driver"]),
        ({"log-driver": "local"}, None, ["log-driver"]),
        (THEIRS, THEIRS, []),
        ({**THEIRS, "mtu": 9000}, THEIRS, ["mtu"]),
        ({"log-opts": {"max-size": "9m", "max-file": "2"}}, {"log-opts": {"max-size": "9m"}}, ["log-opts.max-file"]),
        ({"mtu": 1}, "no record", None),
        ("no JSON", None, []),
        ("[1]", None, []),
        ("[" * 5000, None, []),
    ],
)
def test_the_reader_reports_the_options_that_are_not_in_the_baseline(
    tmp_path: Path, now: Any, before: Any, later: list[str] | None
) -> None:
    state = read(tmp_path, now, before)
    del state[daemon_options.FILE]
    options = {"of": daemon_options.FILE, "later": later}
    assert state == ({} if later is None else {daemon_options.OPTIONS: options})


def state(*later: str) -> managed_set.State:
    return {daemon_options.FILE: {"sha256": ",".join(later)}, daemon_options.OPTIONS: {"later": [*later]}}


NODE = {"name": "glm-1", "address": "192.0.2.11", "host_key": "ssh-ed25519 AAAA", "user": "root", "port": 22}
HOST = {"node": NODE, "roles": {"docker": ""}, "vars": {"docker_daemon_options": {"log-driver": "local"}}}


class Machine:
    """A host whose daemon.json has the options `later` and those of the baseline; a run of Host changes nothing there."""

    def __init__(self, *later: str) -> None:
        self.later, self.lines = ["log-driver", *later], list[str]()
        outcome = converge.Outcome({}, managed_set.Declared({daemon_options.FILE: True}), 0, 1, {"docker": 1.0})
        self.host = Playbook("Host", (), Slots(), run=lambda *_: outcome, read=lambda *_: [state(*self.later)])
        self.request = Request(urn("Host"), lambda text, _: self.lines.append(text), threading.Event())

    def up(self, old: Props | None, **daemon_options: Any) -> Props:
        self.lines.clear()
        inputs = {**HOST, "vars": {"docker_daemon_options": {"log-driver": "local", **daemon_options}}}
        return self.host.apply(self.request, inputs, old)

    def refresh(self, old: Props) -> Props:
        return self.host.read(self.request, old)


DRIFT = Difference.of(daemon_options.OPTIONS, "later", [], ["mtu"]).to_json()
KEPT = "kept, and reported as drift until docker_daemon_options has it or somebody removes it: options of /etc/docker/daemon.json"


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def outputs(machine: Machine) -> Props:
    """The outputs of the Host, before somebody adds the option mtu on the machine."""
    outputs = machine.up(None)
    machine.later.append("mtu")
    return outputs


@pytest.mark.parametrize("refresh", [True, False])
def test_an_option_that_somebody_adds_is_drift_at_every_refresh(
    machine: Machine, outputs: Props, refresh: bool
) -> None:
    """Also after runs without a refresh."""
    for _ in range(3):
        if refresh:
            outputs = machine.refresh(outputs)
            assert DRIFT in outputs["drift"]
        outputs = machine.up(outputs)
        assert machine.lines == [f"{KEPT} (option mtu, wanted no such option)"]
    assert machine.refresh(outputs)["drift"] == [DRIFT]


def test_an_option_that_the_stack_declares_is_no_drift(machine: Machine, outputs: Props) -> None:
    outputs = machine.up(machine.refresh(machine.up(outputs)), mtu=9000)
    assert machine.refresh(outputs)["drift"] == []
    outputs = machine.up(outputs)  # the stack has it no longer: no role removes it from the host
    assert machine.refresh(outputs)["drift"] == []


def test_an_option_that_somebody_removes_again_is_no_drift(machine: Machine, outputs: Props) -> None:
    outputs = machine.up(machine.refresh(outputs))
    machine.later.remove("mtu")
    outputs = machine.up(machine.refresh(outputs))
    assert machine.refresh(outputs)["drift"] == []


def test_a_state_of_an_earlier_release_accepts_the_options_that_exist_and_has_no_drift() -> None:
    machine = Machine("mtu")
    expected = {daemon_options.FILE: state(*machine.later)[daemon_options.FILE]}
    managed = {"declared": {daemon_options.FILE: True}, "expected": expected}
    outputs: Props = {**HOST, "managed": managed, "drift": []}
    assert machine.refresh(outputs)["drift"] == []
    outputs = machine.up(outputs)
    assert machine.refresh(outputs)["drift"] == [] and machine.lines == []


def test_options_have_the_names_that_the_reader_gives_them() -> None:
    options = {"log-opts": {"max-size": "9m"}, "labels": [], "features": {}}
    assert [*daemon_options.names(options)] == ["log-opts.max-size", "labels", "features"]
