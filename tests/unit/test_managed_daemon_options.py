"""Options of daemon.json: what was there before our first run stays, what the stack declares is expected, what comes later is drift."""

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
    """Return what the reader says of a daemon.json; `before` is that of the baseline (None: there was none)."""
    daemon, baseline = folder / "daemon.json", folder / "before.json"
    daemon.write_text(now if isinstance(now, str) else json.dumps(now))
    content = None if before is None else {"content": base64.b64encode(json.dumps(before).encode()).decode()}
    baseline.write_text(json.dumps({"files": {str(daemon): content}}) if before != "no record" else "{}")
    script = READER.read_text().replace(FILE, str(daemon)).replace("/var/lib/fleet/before.json", str(baseline))
    done = subprocess.run(
        [sys.executable, "-I", "-"],
        input=f"{script}\nmain(['file {daemon}'])",
        capture_output=True,
        text=True,
        check=True,
    )
    state: managed_set.State = json.loads(done.stdout.replace(str(daemon), FILE))
    return state


@pytest.mark.parametrize(
    ("now", "before", "later"),
    [
        ({**THEIRS, "log-driver": "local"}, THEIRS, ["log-driver"]),
        ({"log-driver": "local"}, None, ["log-driver"]),
        (THEIRS, THEIRS, []),
        ({**THEIRS, "mtu": 9000}, THEIRS, ["mtu"]),
        (
            {"log-opts": {"max-size": "9m", "max-file": "2"}},
            {"log-opts": {"max-size": "9m"}},
            ["log-opts.max-file"],
        ),
        ({"mtu": 1}, "no record", None),
        ("no JSON", None, []),
        ("[1]", None, []),
        ("[" * 5000, None, []),
    ],
)
def test_the_reader_tells_which_options_are_not_of_the_baseline(
    tmp_path: Path, now: Any, before: Any, later: list[str] | None
) -> None:
    seen = read(tmp_path, now, before)
    wanted = {} if later is None else {daemon_options.OPTIONS: {"of": daemon_options.FILE, "later": later}}
    assert {what: state for what, state in seen.items() if what != daemon_options.FILE} == wanted


def state(*later: str) -> managed_set.State:
    return {daemon_options.FILE: {"sha256": ",".join(later)}, daemon_options.OPTIONS: {"later": [*later]}}


NODE = {"name": "glm-1", "address": "192.0.2.11", "host_key": "ssh-ed25519 AAAA", "user": "root", "port": 22}
HOST = {"node": NODE, "roles": {"docker": ""}, "vars": {"docker_daemon_options": {"log-driver": "local"}}}


class Machine:
    """A host whose daemon.json has the options of `later` beside those of the baseline; runs of Host change nothing on it."""

    def __init__(self) -> None:
        self.later, self.lines = ["log-driver"], list[str]()
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


@pytest.mark.parametrize("refreshed", [True, False])
def test_an_option_that_somebody_adds_is_drift_at_every_refresh(refreshed: bool) -> None:
    """Also where a run came between that nobody refreshed before."""
    machine = Machine()
    now = machine.up(None)
    machine.later = ["log-driver", "mtu"]
    for _ in range(3):
        if refreshed:
            now = machine.refresh(now)
            assert DRIFT in now["drift"]
        now = machine.up(now)
        assert machine.lines == [f"{KEPT} (option mtu, wanted no such option)"]
    assert machine.refresh(now)["drift"] == [DRIFT]


def test_it_is_no_drift_any_more_once_the_stack_declares_it() -> None:
    machine = Machine()
    now = machine.up(None)
    machine.later = ["log-driver", "mtu"]
    now = machine.up(machine.refresh(machine.up(now)), mtu=9000)
    assert machine.refresh(now)["drift"] == []
    now = machine.up(now)  # taken out of the stack again: no role takes it off the host
    assert machine.refresh(now)["drift"] == []


def test_it_is_no_drift_any_more_once_it_is_taken_out() -> None:
    machine = Machine()
    now = machine.up(None)
    machine.later = ["log-driver", "mtu"]
    now = machine.up(machine.refresh(now))
    machine.later = ["log-driver"]
    now = machine.up(machine.refresh(now))
    assert machine.refresh(now)["drift"] == []


def test_a_state_of_an_earlier_release_shows_no_drift_and_takes_what_is_there() -> None:
    machine = Machine()
    machine.later = ["log-driver", "mtu"]
    old = {
        "managed": {
            "declared": {daemon_options.FILE: True},
            "expected": {daemon_options.FILE: state(*machine.later)[daemon_options.FILE]},
        }
    }
    now = {**HOST, **old, "drift": []}
    assert machine.refresh(now)["drift"] == []
    now = machine.up(now)
    assert machine.refresh(now)["drift"] == [] and machine.lines == []


def test_options_are_named_as_the_reader_names_them() -> None:
    assert [*daemon_options.names({"log-opts": {"max-size": "9m"}, "labels": [], "features": {}})] == [
        "log-opts.max-size",
        "labels",
        "features",
    ]
