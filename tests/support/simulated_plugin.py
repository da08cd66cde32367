"""The fleet's plugin with imaginary machines: every run succeeds after the seconds in machines.json. BMCs are real.

Started by the Pulumi engine. Used by tests/preview, which need a state of deployed machines. Reads machines.json of FLEET_STATE:
{seconds: {role: s}, drift: {"KIND NODE": {thing: state}}, silent: [node], failing: [KIND NODE], drained: [node], days: how much later it is}.
Writes runs.log.
Usage: python -m tests.support.simulated_plugin ENGINE_ADDRESS.
"""

from fleet.sdk_patches import sdk_stub

sdk_stub.apply()

import datetime  # noqa: E402, after it
import json  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from typing import Any  # noqa: E402

from fleet import certificates, errors, ssh  # noqa: E402
from fleet.ansible import converge  # noqa: E402
from fleet.managed import managed_set, rotation  # noqa: E402
from fleet.managed.standing import Standing  # noqa: E402
from fleet.provider import account, authority, baremetal, base, gateway, hostkey, node, plugin, servicer  # noqa: E402
from fleet.provider.change_in_turns import ChangeInTurns  # noqa: E402
from fleet.provider.playbook import Playbook  # noqa: E402
from fleet.provider.properties import Props  # noqa: E402
from fleet.provider.slots import Slots  # noqa: E402
from fleet.stack import resource_roles  # noqa: E402
from tests.support.right_outputs import RIGHT  # noqa: E402

# The results of each kind, and one thing that it manages on its machine.
RESULTS: dict[str, Props] = {
    "Host": {"gpus": 8, "driver": "6.16", "engine": "1" * 32},
    "Image": {"image": "registry.example/glm@sha256:" + "ab" * 32, "commit": "c" * 40, "version": "5.0"},
    "Weights": {"path": "/srv/models/glm", "revision": "a" * 40, "bytes": 1, "files": 1, "manifest": "b" * 64},
    "Serving": {"replicas": [{"name": "glm-0", "port": 8000, "model": "zai-org/GLM-4.6V"}]},
    "Gateway": {"version": "2.8.16", "acme": {}},
}
VERDICT = {"passed": 12, "total": 12, "evidence": "/evidence"}
THINGS = {
    "Host": "kernel started for /etc/default/grub.d/90-fleet.cfg",
    "Image": "file /var/lib/fleet/transformers/Dockerfile",
    "Weights": "file /usr/local/lib/fleet/fetch-weights",
    "Serving": "unit glm-0.service",
    "Gateway": "unit fleet-proxy.service",
}


def machines() -> Props:
    """Return the machines' present state, which the test sets."""
    state: Props = json.loads((base.state_dir() / "machines.json").read_text())
    return state


def log(line: str) -> None:
    """Append a line to runs.log."""
    with (base.state_dir() / "runs.log").open("a") as file:
        file.write(f"{line}\n")


class Turns(ChangeInTurns):
    """Turns without a connection: every machine serves unless it is silent, drains at once and is healthy again."""

    def census(
        self, order: Sequence[str], nodes: Mapping[str, Any], request: base.Request, planes: Sequence[str] = ()
    ) -> None:
        """Take the test's word."""
        if self._turns:
            silent, first = machines()["silent"], not (base.state_dir() / "runs.log").exists()
            served = Standing.NOTHING if first else Standing.SERVES
            self._targets = dict.fromkeys(nodes, ssh.Target("imaginary", "192.0.2.1"))
            self._turns.take_census(order, {name: Standing.DEAD if name in silent else served for name in order})

    def _drain(self, request: base.Request, target: ssh.Target) -> None:
        log(f"drain {request.name}")

    def _give_back(self, node: str, *_: Any, **__: Any) -> None:
        log(f"give back {node}")
        assert self._turns
        self._turns.passed(node)

    def _serves_on(self, node: str, *_: Any) -> bool:
        return True


class Fleet(servicer.Fleet):
    """The provider with these turns."""

    turns = Turns


class Node(node.Node):
    """A machine that needs no connection."""

    def apply(self, request: base.Request, inputs: Props, old: Props | None) -> Props:
        """It answers."""
        return {**self.planned_outputs(inputs, {}, old), "facts": {"kernel": "6.8"}}

    def delete(self, request: base.Request, properties: Props) -> None:
        """It has no mark."""


class Run(Playbook):
    """One kind; the probes of a Serving pass."""

    def apply(self, request: base.Request, inputs: Props, old: Props | None) -> Props:
        """It runs."""
        outputs = super().apply(request, inputs, old)
        return {**outputs, "verdict": VERDICT} if self.name == "Serving" else outputs


def playbook(kind: str, slots: Slots) -> Playbook:
    """Return a kind whose runs do nothing and whose machines have the test's state."""
    thing = THINGS[kind]
    right = {"arguments": ["iommu=pt"]} if kind == "Host" else {"state": "active"}

    def run(job: converge.Job, *_: Any) -> converge.Outcome:
        log(f"{kind} {job.target.name} begins")
        seconds = {
            role: duration
            for role, duration in machines()["seconds"].items()
            if role in resource_roles.ROLES[kind.lower()]
        }
        if f"{kind} {job.target.name}" in machines()["failing"]:
            raise errors.ConvergeFailed(node=job.target.name, doing=kind.lower(), seen="it broke")
        log(f"{kind} {job.target.name} ends")
        declared = managed_set.Declared({thing.replace("kernel started for", "file"): True})
        results = RESULTS[kind] if kind != "Host" or "docker" in job.data.get("fleet_roles", ()) else {}
        return converge.Outcome({f"fleet_{kind.lower()}": results}, declared, 0, 1, seconds)

    def read(target: Any, declared: Any) -> list[managed_set.State]:
        now = machines()
        if target.name in now["silent"]:
            raise errors.Unreachable(node=target.name, doing="connect", seen="no answer")
        return [{thing: now["drift"].get(f"{kind} {target.name}", right)}]

    if kind == "Gateway":
        looks = {"look": look, "look_at_certificate": lambda _: {**RIGHT["Gateway"]["acme"], "right": True}}
        return gateway.Gateway(kind, (*RESULTS[kind], "certificates", "ends"), slots, run=run, read=read, **looks)
    made = ("verdict",) if kind == "Serving" else ()
    return Run(kind, (*RESULTS[kind], *made), slots, run=run, read=read)


def look(target: ssh.Target) -> rotation.Look:
    """Return how a node serves; an operator drained some in September 2026."""
    drained = target.name in machines().get("drained", ())
    mark, since = ("operator", 1_790_000_000) if drained else ("", 0)
    return rotation.Look(
        "answers", drained, mark, {}, since, {}, 0, 0, {"glm-0": {"unit": "active", "proxy": "UP"}}, True
    )


if __name__ == "__main__":
    slots, now = Slots(), certificates.now
    certificates.now = lambda: now() + datetime.timedelta(days=machines().get("days", 0))
    real = {"BareMetal": baremetal.BareMetal(), "HostKey": hostkey.HostKey()}
    real |= {"Authority": authority.Authority(), "Account": account.Account()}
    plugin.serve({"Node": Node(), **real, **{kind: playbook(kind, slots) for kind in RESULTS}}, Fleet)
