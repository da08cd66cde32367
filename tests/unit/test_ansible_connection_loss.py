"""When ssh loses a node, the message says how, and what to do about that."""

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


LOST = """\
  wanted: an SSH connection that lasts until the run ends
  next:   ssh -p 22 root@192.0.2.11 true; `pulumi up` goes on"""


def lose_node(output: str) -> errors.FleetError:
    """Return the error of a run that loses its node with this output of ssh."""
    tracker = progress.Tracker(["docker"], lambda _: None)
    place = {"role": "docker", "task": "Ensure a file"}
    tracker.handle({"event": "task", **place})
    tracker.handle({"event": "unreachable", **place, "ignored": False, "res": {"msg": output}})
    assert tracker.failure
    return tracker.failure(NODE, "`pulumi up` goes on")


def test_the_message_about_a_silent_node_says_how_to_reach_it() -> None:
    error = lose_node("Failed to connect to the host via ssh: Timeout, server 192.0.2.11 not responding.")
    assert str(error) == f"glm-1: docker: Ensure a file: Timeout, server 192.0.2.11 not responding.\n{LOST}"


# ssh ends the lines of its own words like a terminal, and prints the fingerprint without.
@pytest.mark.parametrize("output", [STRANGER, STRANGER.replace("\n", "\r\n"), STRANGER.replace(".\n", ".\r\n")])
def test_the_message_about_another_host_key_has_both_fingerprints(output: str) -> None:
    error = lose_node(output)
    assert isinstance(error, errors.HostKeyMismatch)
    assert str(error) == (
        "glm-1: docker: Ensure a file: another host key: SHA256:tA0yh5/hfSzFYhYOVq4UJCNPvZhFhfHdTFRRj2LUJiA\n"
        "  wanted: the pinned one: ssh-ed25519 SHA256:cbTLPRpqwgBzUdzG0lLr2DqRn8augQH7jH2MbGlQm94\n"
        "  next:   find out which machine answers there; `pulumi up` goes on"
    )


NOT_SENT = (
    'Task failed: Data could not be sent to remote host "192.0.2.11". Make sure this host can be reached over ssh: '
)


def test_a_node_that_is_lost_between_the_items_of_a_task_is_reported_as_lost() -> None:
    reason = "ssh: connect to host 192.0.2.11 port 22: No route to host"
    place = {"role": "weights", "task": "Ensure the folders"}
    tracker = progress.Tracker(["weights"], lambda _: None)
    tracker.handle({"event": "task", **place})
    item = {"msg": NOT_SENT + reason, "unreachable": True}
    loop = {"msg": "All items completed", "results": [item, item]}
    for kind, res in [("runner_item_on_failed", item)] * 2 + [("runner_on_unreachable", loop)]:
        event = events.distil({"event": kind, "event_data": {**place, "res": res}})
        assert event
        tracker.handle(event)
    assert tracker.failure
    assert str(tracker.failure(NODE, "`pulumi up` goes on")) == f"glm-1: weights: Ensure the folders: {reason}\n{LOST}"


def test_the_message_about_a_refused_login_names_the_key() -> None:
    error = lose_node("Failed to connect to the host via ssh: root@192.0.2.11: Permission denied (publickey).")
    assert isinstance(error, errors.LoginRefused)
    assert str(error) == (
        "glm-1: docker: Ensure a file: the login as root@192.0.2.11:22 is refused\n"
        "  wanted: a key that root on glm-1 accepts, until the run ends\n"
        "  next:   put the key of ~/.ssh/fleet back there; `pulumi up` goes on"
    )


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("Failed to connect to the host via ssh: Shared connection to 192.0.2.11 closed.", "Shared connection to 192.0.2.11 closed."),
        (NOT_SENT, "the connection broke"),
        ("Failed to connect to the host via ssh: Connection reset\nShared connection to 192.0.2.11 closed.", "Connection reset"),
        ("", "the connection broke"),
    ],
)  # fmt: skip
def test_the_message_keeps_the_line_of_ssh_that_gives_the_reason(output: str, reason: str) -> None:
    assert connection_loss.reason_line(output) == reason


JUMP = ssh.Target("glm-1.bastion", "192.0.2.1", user="jump", host_key=KEY, identity="~/.ssh/jump")


@pytest.mark.parametrize(
    ("output", "node"),
    [
        (
            STRANGER.replace("\nHost key verif", "\nHost key for glm-1.bastion has changed and …\nHost key verif"),
            "glm-1.bastion",
        ),
        ("Failed to connect to the host via ssh: jump@192.0.2.1: Permission denied (publickey).", "glm-1.bastion"),
        ("Failed to connect to the host via ssh: root@192.0.2.11: Permission denied (publickey).", "glm-1"),
    ],
)
def test_a_failure_at_the_bastion_names_the_bastion(output: str, node: str) -> None:
    assert connection_loss.from_ssh(dataclasses.replace(NODE, bastion=JUMP), "docker", output, "").node == node
