"""When ssh loses a node, the message says which way it was lost, and what to do about that."""

import dataclasses

import pytest

from fleet import errors, ssh
from fleet.ansible import connection_loss, events, progress

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGHyV0SlGKkDjJaWj8dX5SpMgQMYrBzoIhHlC8nsyJ9l"
NODE = ssh.Target("glm-1", "192.0.2.11", host_key=KEY, identity="~/.ssh/fleet")
STRANGER = """\
Failed to connect to the host via ssh: @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
SHA256:tA0yh5/hfSzFYhYOVq4UJCNPvZhFhfHdTFRRj2LUJiA.
Host key verification failed."""


def told(said: str) -> errors.FleetError:
    """The error of a run that lost its node with these words."""
    tracker = progress.Tracker(["docker"], lambda _: None)
    place = {"role": "docker", "task": "Ensure a file"}
    tracker.handle({"event": "task", **place})
    tracker.handle({"event": "unreachable", **place, "ignored": False, "res": {"msg": said}})
    assert tracker.failure
    return tracker.failure(NODE, "`pulumi up` goes on")


def test_a_silent_node_is_told_with_how_to_ask_it_again() -> None:
    assert str(told("Failed to connect to the host via ssh: Timeout, server 192.0.2.11 not responding.")) == (
        "glm-1: docker: Ensure a file: Timeout, server 192.0.2.11 not responding.\n"
        "  wanted: an SSH connection that lasts until the run ends\n"
        "  next:   ssh -p 22 root@192.0.2.11 true; `pulumi up` goes on"
    )


# ssh ends the lines of its own words like a terminal, and prints the fingerprint without.
@pytest.mark.parametrize("ending", [STRANGER, STRANGER.replace("\n", "\r\n"), STRANGER.replace(".\n", ".\r\n")])
def test_another_host_key_is_told_with_both_fingerprints(ending: str) -> None:
    error = told(ending)
    assert isinstance(error, errors.HostKeyMismatch)
    assert str(error) == (
        "glm-1: docker: Ensure a file: another host key: SHA256:tA0yh5/hfSzFYhYOVq4UJCNPvZhFhfHdTFRRj2LUJiA\n"
        "  wanted: the pinned one: ssh-ed25519 SHA256:cbTLPRpqwgBzUdzG0lLr2DqRn8augQH7jH2MbGlQm94\n"
        "  next:   find out which machine answers there; `pulumi up` goes on"
    )


def test_a_node_that_is_lost_between_the_items_of_a_task_is_told_as_one_that_is_lost() -> None:
    words = (
        'Task failed: Data could not be sent to remote host "192.0.2.11". Make sure this host can be reached over ssh: '
    )
    why = "ssh: connect to host 192.0.2.11 port 22: No route to host"
    place = {"role": "weights", "task": "Ensure the folders"}
    tracker = progress.Tracker(["weights"], lambda _: None)
    tracker.handle({"event": "task", **place})
    res = {"msg": words + why, "unreachable": True}
    for kind, said in [("runner_item_on_failed", res)] * 2 + [
        ("runner_on_unreachable", {"msg": "All items completed", "results": [res, res]})
    ]:
        event = events.distil({"event": kind, "event_data": {**place, "res": said}})
        assert event
        tracker.handle(event)
    assert tracker.failure
    assert str(tracker.failure(NODE, "`pulumi up` goes on")) == (
        f"glm-1: weights: Ensure the folders: {why}\n"
        "  wanted: an SSH connection that lasts until the run ends\n"
        "  next:   ssh -p 22 root@192.0.2.11 true; `pulumi up` goes on"
    )


def test_a_refused_login_is_told_with_the_key_that_was_tried() -> None:
    error = told("Failed to connect to the host via ssh: root@192.0.2.11: Permission denied (publickey).")
    assert isinstance(error, errors.LoginRefused)
    assert str(error) == (
        "glm-1: docker: Ensure a file: the login as root@192.0.2.11:22 is refused\n"
        "  wanted: a key that root on glm-1 accepts, until the run ends\n"
        "  next:   put the key of ~/.ssh/fleet back there; `pulumi up` goes on"
    )


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("Failed to connect to the host via ssh: Shared connection to 192.0.2.11 closed.", "Shared connection to 192.0.2.11 closed."),
        (
            'Task failed: Data could not be sent to remote host "192.0.2.11". Make sure this host can be reached over ssh: ',
            "the connection broke",
        ),
        ("Failed to connect to the host via ssh: Connection reset\nShared connection to 192.0.2.11 closed.", "Connection reset"),
        ("", "the connection broke"),
    ],
)  # fmt: skip
def test_of_what_ssh_says_the_line_that_tells_why_is_kept(said: str, why: str) -> None:
    assert connection_loss.reason_line(said) == why


JUMP = ssh.Target("glm-1.bastion", "192.0.2.1", user="jump", host_key=KEY, identity="~/.ssh/jump")


@pytest.mark.parametrize(
    ("said", "who"),
    [
        (
            STRANGER.replace("\nHost key verif", "\nHost key for glm-1.bastion has changed and …\nHost key verif"),
            "glm-1.bastion",
        ),
        ("Failed to connect to the host via ssh: jump@192.0.2.1: Permission denied (publickey).", "glm-1.bastion"),
        ("Failed to connect to the host via ssh: root@192.0.2.11: Permission denied (publickey).", "glm-1"),
    ],
)
def test_what_happens_at_the_bastion_is_told_as_the_bastion_s(said: str, who: str) -> None:
    error = connection_loss.from_ssh(dataclasses.replace(NODE, bastion=JUMP), "docker", said, "")
    assert error.node == who
