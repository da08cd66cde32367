"""Lines that a user pastes into a shell are words of that shell, whatever a node, a stack file or a path contains."""

import json
import shlex

import pytest

from fleet import errors, ssh
from fleet.cli import show
from fleet.managed import owner
from fleet.preflight import Observation
from fleet.preflight.host import network
from fleet.provider import base, probing
from tests.support.preflight_machines import healthy, prod_requirements

EVIL = "x; touch /tmp/y; $(id) `id` 'q' \"d\" a b"


def commands(text: str) -> list[list[str]]:
    """Return the words of each command in backquotes."""
    return [shlex.split(part) for part in text.split("`")[1::2]]


def test_the_login_line_of_a_machine_keeps_its_words() -> None:
    bastion = ssh.Target("b", "192.0.2.2", 2222, "jump $(id)")
    words = shlex.split(ssh.Target("n", "192.0.2.1 -oProxyCommand=x", 22, "o p", bastion=bastion).login)
    assert words == ["ssh", "-J", "jump $(id)@192.0.2.2:2222", "-p", "22", "o p@192.0.2.1 -oProxyCommand=x"]
    assert ssh.Target("n", "192.0.2.1").login == "ssh -p 22 root@192.0.2.1"
    through = ssh.Target("n", "2001:db8::11", bastion=ssh.Target("b", "2001:db8::1", 2222)).login
    assert shlex.split(through) == ["ssh", "-J", "root@[2001:db8::1]:2222", "-p", "22", "root@2001:db8::11"]


def test_the_line_that_destroys_the_owner_s_stack_keeps_its_words() -> None:
    theirs = owner.Owner("a/b/c; rm -rf /", "who", "since")
    first, *_ = commands(owner.refusal(theirs, ssh.Target("n", "192.0.2.1"), "ours")["next"])
    assert first == ["pulumi", "destroy", "-s", "a/b/c; rm -rf /"]


def test_the_line_that_tries_an_address_keeps_its_words() -> None:
    facts = healthy()
    facts["reach"] = {"a;id:80": "no answer"}
    failures = [result for result in network(Observation(facts, 0.0), prod_requirements()) if result.level != "ok"]
    assert commands(failures[0].next) == [["curl", "-v", "telnet://a;id:80"]]


def test_the_last_two_lines_of_show_keep_their_words() -> None:
    replica = {"name": "glm-0 $(id)", "port": 8000, "model": EVIL}
    forward, request = show.paste(
        {"replicas": {"glm-1": {"connection": {}, "replicas": [replica]}}}, "la b"
    ).splitlines()
    words = shlex.split(forward.partition("; ")[2])
    assert words == ["fleet", "forward", "-s", "la b", "glm-1/glm-0 $(id)", "--port", "8000"]
    ask = shlex.split(request.partition("; ")[2].partition(" -H @<")[0])
    assert ask[:6] == ["fleet", "request", "bottle-grounding", "--model", EVIL, "|"]
    assert "--show-secrets -s 'la b')" in request


@pytest.mark.parametrize("folder", ["/srv/glm fleet/.pulumi/evidence/lab", "/srv/fleet/.pulumi/evidence/lab"])
def test_the_line_that_opens_the_evidence_keeps_a_path_with_a_space_as_one_word(folder: str) -> None:
    request = base.Request("urn:pulumi:s::p::t::glm-1", lambda *_: None, None)  # type: ignore[arg-type]
    error = probing.failed(request, {"verdict": {"evidence": folder}}, probing.Probed(0, 1, ["wrong"]))
    assert shlex.split(error.next.partition(";")[0]) == ["open", f"{folder}/glm-1-*.html"]


def test_a_message_shows_an_escape_sequence_in_a_quoted_name() -> None:
    theirs = owner.Owner.read(json.dumps({"id": "a\x1b[2J", "who": "x", "since": "y"}))
    assert theirs
    message = str(errors.NotReady(**owner.refusal(theirs, ssh.Target("n", "192.0.2.1"), "ours")))
    assert "\x1b" not in message and "'a\\x1b[2J'" in message
