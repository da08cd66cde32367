"""The resource Member: whom it asks for a token, that none stays in the state, and the order in which a member goes.

Without a machine: the run of the playbook, the control plane and the machine stand in.
"""

import datetime
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from fleet import certificates, errors, ssh
from fleet.ansible import converge
from fleet.managed import managed_set
from fleet.managed.member_pods import Member as State
from fleet.managed.membership import Ticket
from fleet.provider import base
from fleet.provider.base import InitFailed, Request
from fleet.provider.member import Member
from fleet.provider.properties import UNKNOWN, Props
from fleet.provider.slots import Slots

TOKEN, KEY = "abcdef.0123456789abcdef", "5f" * 32
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n"
FIRST = {"name": "cp-1", "address": "192.0.2.1", "port": 22, "host_key": "ssh-ed25519 AAAA"}
OWN = {"name": "gpu-1", "address": "192.0.2.9", "port": 22, "host_key": "ssh-ed25519 BBBB"}


class Cluster:
    """Stands in for the runs of the playbook and for the control plane: records what each is asked."""

    def __init__(self, ticket: Ticket | None = None, error: errors.FleetError | None = None) -> None:
        self.ticket, self.error = ticket, error
        self.events: list[str] = []
        self.secrets: list[dict[str, str]] = []
        outputs = ("part", "version", "endpoint", "authority", "ends")
        self.member = Member(
            "Member",
            outputs,
            Slots(),
            run=self.run,
            read=lambda *_: [{}],
            get_ticket=self.get_ticket,
            take_out=self.take_out,
        )

    def run(self, job: converge.Job, *_: Any) -> converge.Outcome:
        self.events.append(job.playbook.stem)
        self.secrets.append(dict(job.secrets))
        results = {"part": "worker", "version": "1.37.2", "endpoint": "192.0.2.1:6443", "authority": CERTIFICATE}
        return converge.Outcome({"fleet_member": results}, managed_set.Declared(), 0, 1, {"kubernetes": 3.0})

    def get_ticket(self, control_plane: ssh.Target, machine: ssh.Target, joins_as_one: bool) -> Ticket | None:
        self.events.append(f"ask {control_plane.name} for {machine.name}{', a control plane' if joins_as_one else ''}")
        if self.error:
            raise self.error
        return self.ticket

    def take_out(self, control_plane: ssh.Target, member: str) -> None:
        self.events.append(f"take {member} out by {control_plane.name}")
        if self.error:
            raise self.error


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(base, "state_dir", lambda: tmp_path)


def request() -> Request:
    return Request(
        "urn:pulumi:prod::glm-fleet::fleet:index:Member::gpu-1", lambda *_: None, threading.Event(), lambda _: None
    )


def inputs(part: str = "worker", **more: Any) -> Props:
    asked = {} if part == "first" else {"control_plane": FIRST}
    return {"node": OWN, "roles": {"kubernetes": ""}, "vars": {"kubernetes_part": part}, **asked, **more}


def test_a_worker_joins_with_a_token_of_the_first_control_plane_that_is_not_in_the_state() -> None:
    cluster = Cluster(Ticket(TOKEN))
    state = cluster.member.apply(request(), inputs(), None)
    assert cluster.events == ["ask cp-1 for gpu-1", "member"]
    assert cluster.secrets == [{"KUBERNETES_JOIN_TOKEN": TOKEN}]
    assert TOKEN not in json.dumps(state)


def test_a_control_plane_joins_with_the_key_of_the_certificates_which_is_not_in_the_state_either() -> None:
    cluster = Cluster(Ticket(TOKEN, KEY))
    state = cluster.member.apply(request(), inputs("control-plane"), None)
    assert cluster.events[0] == "ask cp-1 for gpu-1, a control plane"
    assert cluster.secrets == [{"KUBERNETES_JOIN_TOKEN": TOKEN, "KUBERNETES_CERTIFICATE_KEY": KEY}]
    assert KEY not in json.dumps(state)


def test_a_machine_that_is_a_member_needs_no_token() -> None:
    cluster = Cluster(None)
    cluster.member.apply(request(), inputs(), None)
    assert cluster.secrets == [{}]


def test_the_first_control_plane_asks_nobody() -> None:
    cluster = Cluster()
    cluster.member.apply(request(), inputs("first"), None)
    assert cluster.events == ["member"]


def test_a_control_plane_that_gives_no_token_stops_the_join_before_its_run() -> None:
    cluster = Cluster(error=errors.Unreachable(node="cp-1", doing="connect", seen="no answer"))
    with pytest.raises(InitFailed) as caught:
        cluster.member.apply(request(), inputs(), None)
    assert caught.value.error.node == "cp-1" and "member" not in cluster.events


def test_another_control_plane_to_ask_is_no_change_of_a_member() -> None:
    assert "control_plane" in Cluster().member.ignored_inputs


def test_a_member_leaves_the_cluster_before_its_machine_is_torn_down() -> None:
    cluster = Cluster()
    cluster.member.delete(request(), {**inputs(), "part": "worker"})
    assert cluster.events == ["take gpu-1 out by cp-1", "teardown"]


def test_a_member_whose_pods_stay_is_not_torn_down() -> None:
    cluster = Cluster(error=errors.CommandFailed(node="cp-1", doing="take gpu-1 out", seen="a disruption budget"))
    with pytest.raises(errors.CommandFailed):
        cluster.member.delete(request(), {**inputs(), "part": "worker"})
    assert "teardown" not in cluster.events


def test_a_machine_that_never_joined_is_torn_down_without_the_cluster() -> None:
    cluster = Cluster()
    cluster.member.delete(request(), {**inputs(), "part": None})
    assert cluster.events == ["teardown"]


TODAY = datetime.datetime(2027, 11, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ("2027-12-02", ""),
        ("2027-12-01", "its certificate ends 2027-12-01, renewed"),
        ("2027-10-01", "its certificate ends 2027-10-01, renewed"),
        *[(text, "") for text in ("", None, "2027-02-31")],
    ],
)
def test_certificates_of_a_control_plane_are_due_in_their_last_30_days(
    monkeypatch: pytest.MonkeyPatch, ends: str | None, reason: str
) -> None:
    monkeypatch.setattr(certificates, "now", lambda: TODAY)
    member, old = Cluster().member, {**inputs("first"), "ends": ends}
    assert member.due(old) == ({"ends": reason} if reason else {})
    assert [entry.because for entry in member.reasons(inputs("first"), inputs("first"), old)] == (
        [reason] if reason else []
    )


def of_version(wanted: str, has: str = "", begun: str = "", part: str = "worker") -> tuple[Props, Props]:
    """Return the inputs, and the state of a member that `has` a version; `begun` is what a failed run wanted."""
    new = inputs(part)
    new["vars"] |= {"kubernetes_name": "gpu-1", "kubernetes_version": wanted}
    state = {**new, "vars": {**new["vars"], "kubernetes_version": begun or has}, "version": has, "part": part}
    return new, state | {
        "endpoint": "192.0.2.1:6443",
        "authority": CERTIFICATE,
        "ends": "2028-01-01" if part == "first" else "",
    }


def test_another_version_upgrades_a_member_and_its_pods_move() -> None:
    new, state = of_version("1.37.2", "1.36.3")
    (effect,) = Cluster().member.effects(state, new, state)
    assert (effect.level, effect.what, effect.manner) == (
        *("upgrade", ("Kubernetes 1.36.3 to 1.37.2",)),
        "pods move to other nodes",
    )
    assert effect.because == ("kubernetes_version 1.36.3 -> 1.37.2",)


@pytest.mark.parametrize(
    ("wanted", "has", "begun", "upgrades"),
    [
        ("1.36.3", "1.36.3", "", False),
        ("1.37.2", "1.36.3", "1.37.2", True),
        ("1.36.3", "1.36.3", "1.37.2", True),
        ("1.37.2", "", "1.37.2", False),
    ],
    ids=["nothing new", "an upgrade that failed goes on", "an upgrade that is given up ends", "it never joined"],
)
def test_a_member_has_a_turn_for_an_upgrade(wanted: str, has: str, begun: str, upgrades: bool) -> None:
    assert Cluster().member.upgrades(*of_version(wanted, has, begun)) is upgrades


def test_an_upgrade_that_is_given_up_says_that_the_version_stays() -> None:
    new, state = of_version("1.36.3", "1.36.3", begun="1.37.2")
    (effect,) = Cluster().member.effects({**state, "vars": new["vars"]}, new, state)
    assert effect.what == ("Kubernetes, which stays at 1.36.3",)


def test_a_member_on_a_machine_that_was_reinstalled_is_set_up_again() -> None:
    new, state = of_version("1.37.2", "1.36.3")
    new["node"] = {**OWN, "install": "two"}
    (effect,) = Cluster().member.effects(state, new, {**state, "node": {**OWN, "install": "one"}})
    assert effect.level == "recreate"


def test_without_a_version_in_the_stack_the_role_s_default_counts() -> None:
    assert Cluster().member.upgrades(inputs(), {**inputs(), "version": "1.36.3"})


def test_an_upgrade_makes_the_version_known_and_renews_the_certificates_of_a_control_plane() -> None:
    for part, ends in (("worker", ""), ("first", UNKNOWN)):
        new, state = of_version("1.37.2", "1.36.3", part=part)
        planned = Cluster().member.planned_outputs(new, state, state)
        assert {name: planned[name] for name in ("version", "authority", "ends")} == {
            **{"version": "1.37.2", "authority": CERTIFICATE},
            "ends": ends,
        }


@pytest.mark.parametrize(
    ("wanted", "seen", "next_step"),
    [
        (
            "1.36.2",
            "it has 1.36.3, and kubernetes_version is 1.36.2",
            "set kubernetes_version to 1.36.3, or to a later patch",
        ),
        (
            "1.35.9",
            "it has 1.36.3, and kubernetes_version is 1.35.9",
            "set kubernetes_version to 1.36.3, or to a later patch",
        ),
        ("1.38.0", "it has 1.36.3, and kubernetes_version is 1.38.0", "set kubernetes_version to the newest 1.37"),
    ],
)
def test_a_way_down_and_two_minor_versions_at_once_stop_the_preview(wanted: str, seen: str, next_step: str) -> None:
    new, state = of_version(wanted, "1.36.3")
    with pytest.raises(errors.NotReady) as caught:
        Cluster().member.effects(state, new, state)
    error = caught.value
    assert (error.node, error.seen, error.next) == ("gpu-1", seen, f"{next_step}; then `pulumi up`")


@pytest.mark.parametrize("version", ["", "1.37", "v1.37.2; reboot", "1.37.2" * 99])
def test_a_version_of_another_form_is_left_to_the_role(version: str) -> None:
    new, state = of_version("1.36.2", version)
    Cluster().member.refuse(new, state)


def plane(version: str) -> State:
    return State(version, ready=True, cordoned=False, in_turn=False, plane=True)


def test_no_worker_is_upgraded_before_a_control_plane() -> None:
    members = {"cp-1": plane("v1.37.2"), "cp-2": plane("v1.36.3"), "gpu-2": State("v1.36.3", True, False, False, False)}
    worker, _ = of_version("1.37.2", "1.36.3")
    with pytest.raises(errors.NotReady) as caught:
        Cluster().member.check_skew(worker, members)
    assert caught.value.seen == "cp-2 has v1.36.3"
    Cluster().member.check_skew(worker, {**members, "cp-2": plane("v1.37.2")})
    second, _ = of_version("1.37.2", "1.36.3", part="control-plane")
    Cluster().member.check_skew(second, members)
