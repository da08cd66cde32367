"""One run of the Pulumi engine for the turn of a node, whose SSH server, scripts and stand-in of HAProxy's admin socket are real.

The role and the probes are functions of the test. Used by tests/provider/test_change_in_turns.py and test_replica_turns.py.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleet import errors, probes
from fleet.ansible import converge
from fleet.managed import managed_set, rotation, snapshot
from fleet.managed.standing import Standing
from fleet.probes.answer import Answer
from fleet.provider.base import Request
from fleet.provider.change_in_turns import ChangeInTurns
from fleet.provider.playbook import Playbook
from fleet.provider.properties import Props
from fleet.provider.serving import Serving
from fleet.provider.slots import Slots
from fleet.provider.turns import Change, Turns
from tests.support.node_proxy import Node, StandIn
from tests.support.plugin import urn
from tests.support.ssh_server import Server

CASE = probes.load(["bottle-grounding"])[0]
RIGHT, WRONG = (
    probes.ProbeResult(CASE, Answer(200, "[[1]]"), [], 1.0),
    probes.ProbeResult(CASE, Answer(400, "no"), ["no box"], 1.0),
)
SHORT = {"POLL, STEP = 0.1, 1.0": "POLL, STEP = 0.01, 0.05", "STILL = 0.5": "STILL = 0.05", "BACK = 30.0": "BACK = 0.5"}
BROKE = errors.ConvergeFailed(
    node="glm-1", doing="vllm: Check that every replica is healthy", seen="glm-0 did not", next="correct it"
)


@dataclass
class Run:
    """One run of the Pulumi engine with the node glm-1 and the imaginary glm-2: what happened, in order."""

    server: Server
    node: Node
    proxy: StandIn | None
    folder: Path
    change: Change
    events: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    role: Callable[[], None] = lambda: None
    one_key: bool = False  # the same API key with all flags
    answers: list[Sequence[probes.ProbeResult]] = field(
        default_factory=list
    )  # of each round of probes; right without one

    def __post_init__(self) -> None:
        self.turns = Turns(self.change)
        self.in_turns = ChangeInTurns(turns=self.turns)
        self.file = self.folder / "config.yaml"
        target = self.server.target
        keys = ("name", "address", "port", "user", "identity", "host_key", "become")
        self.connection = {key: getattr(target, key) for key in keys}
        self.old_inputs = self.inputs(max_model_len=65536)
        managed = {"declared": {f"file {self.file}": True, **self.units}, "expected": {}}
        self.old = {**self.old_inputs, "managed": managed, "drift": [], "took": {}, "replicas": self.replicas}
        self.file.write_text("the old one\n")
        self.file.chmod(0o640)

    @property
    def replicas(self) -> list[Props]:
        return [{"name": name, "model": "m", "port": 8000} for name in self.node.names]

    @property
    def units(self) -> dict[str, bool]:
        return {f"unit {name}.service": True for name in self.node.names}

    def inputs(self, **flags: int) -> Props:
        return {
            "node": self.connection,
            "roles": {"vllm": "1  tasks/main.yml"},
            "vars": {"vllm_flags": flags, "vllm_replicas": [{"name": name} for name in self.node.names]},
            "api_key": "one key" if self.one_key else f"key of {flags}",
            "probes": {"cases": [], "min_iou": 0.5, "digest": f"{flags}"},
        }

    def census(self, **standing: Standing) -> None:
        """Take the census of this run: glm-1 as it is, glm-2 as given."""
        self.in_turns.census(["glm-1"], {"glm-1": self.connection}, self.request("Serving"))
        words = {"glm-1": standing.get("glm_1", self.turns.standing("glm-1")), "glm-2": Standing.SERVES}
        self.turns.take_census([*words], words)

    def request(self, kind: str) -> Request:
        return Request(
            urn(kind),
            lambda text, ephemeral: None if ephemeral else self.lines.append(text),
            self.cancelled,
            self.warnings.append,
        )

    def serve(self, **flags: int) -> Props:
        """Update Serving with these flags; the role writes its file."""
        serving = Serving(
            "Serving", ("replicas", "verdict"), Slots(), run=self._role, read=lambda *_: [{}], run_probes=self._probe
        )
        inputs = self.inputs(**(flags or {"max_model_len": 300}))
        return self.in_turns.update(serving, self.request("Serving"), self.old_inputs, inputs, self.old)

    def host(self, changed: str = "iommu=pt") -> Props:
        """Update Host with another kernel argument, which reboots."""
        old = {"node": self.connection, "roles": {"host": "1  tasks/main.yml"}, "vars": {"host_kernel_arguments": []}}
        new = {**old, "vars": {"host_kernel_arguments": [changed] if changed else []}}
        host = Playbook("Host", ("engine",), Slots(), run=self._role, read=lambda *_: [{}])
        return self.in_turns.update(host, self.request("Host"), old, new, {**old, "managed": {}, "drift": []})

    def others(self) -> str:
        """Return what the other node reads that wants its turn now."""
        self.cancelled.set()
        with pytest.raises(errors.FleetError) as caught:
            self.turns.enter("glm-2", lambda text: None, self.cancelled)
        return str(caught.value).partition("\n")[0]

    def _role(self, job: converge.Job, *_: Any) -> converge.Outcome:
        restarts = f" restarts {', '.join(job.data['fleet_restarts'])}" if "fleet_restarts" in job.data else ""
        self.events.append(f"role{restarts}, {self._rotation}")
        if "serving" in job.playbook.name:
            self.file.write_text("the new one\n")
            (self.folder / "more.yaml").write_text("new\n")
        things = {f"file {self.file}": True, f"file {self.folder / 'more.yaml'}": True, **self.units}
        declared = managed_set.Declared(things)
        try:
            self.role()
        except errors.FleetError as error:
            error.partial = declared.to_json()
            raise
        return converge.Outcome({"fleet_serving": {"replicas": self.replicas}}, declared, 0, 1, {"vllm": 1.0})

    def _probe(self, url: str, key: str, model: str, options: Props, *_: Any) -> Sequence[probes.ProbeResult]:
        what = f"probes of {options['digest']}" if self.one_key else f"probes with the {key}"
        self.events.append(f"{what}, {self._rotation}")
        return self.answers.pop(0) if self.answers else [RIGHT]

    @property
    def _rotation(self) -> str:
        if self.proxy and self.proxy.admission == "MAINT":
            return "drained"
        out = [name for name, server in self.proxy.replicas.items() if server.status == "MAINT"] if self.proxy else []
        return f"without {', '.join(out)}" if out else "in rotation"


def fail(error: errors.FleetError) -> Callable[[], None]:
    def role() -> None:
        raise error

    return role


def make_node(folder: Path, monkeypatch: pytest.MonkeyPatch, *replicas: str) -> Node:
    """Make a node with these replicas; its scripts are faster than real ones."""
    (folder / "node").mkdir()
    node = Node(folder / "node", replicas)
    text = rotation.SCRIPT.read_text()
    for slow, fast in SHORT.items():
        assert slow in text
        text = text.replace(slow, fast)
    (folder / "drain.py").write_text(text)
    monkeypatch.setattr(rotation, "SCRIPT", folder / "drain.py")
    monkeypatch.setattr(rotation, "PATHS", node.paths)
    monkeypatch.setattr(snapshot, "FOLDER", str(folder / "last"))
    monkeypatch.setenv("PATH", node.path)
    monkeypatch.setenv("FLEET_STATE", str(folder / "state"))
    return node


Make = Callable[..., Run]
