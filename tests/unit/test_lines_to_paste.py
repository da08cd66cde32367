"""Lines that a user pastes into a shell are words of that shell, whatever a node, a stack file or a path has put into them."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from fleet import errors, ssh
from fleet.cli import show
from fleet.managed import owner
from fleet.preflight import Observation
from fleet.preflight.host import network
from fleet.provider import base, serving
from tests.support.preflight_machines import healthy, wanted

EVIL = "x; touch /tmp/y; $(id) `id` 'q' \"d\" a b"


def commands(text: str) -> list[list[str]]:
    """Return the words of each command in backquotes; one that is cut short by a word in it is an error."""
    return [shlex.split(part) for part in text.split("`")[1::2]]


def test_the_login_of_a_machine() -> None:
    target = ssh.Target(
        "n", "192.0.2.1 -oProxyCommand=x", 22, "o p", bastion=ssh.Target("b", "192.0.2.2", 2222, "jump $(id)")
    )
    words = shlex.split(target.login)
    assert words == ["ssh", "-J", "jump $(id)@192.0.2.2:2222", "-p", "22", "o p@192.0.2.1 -oProxyCommand=x"]
    assert ssh.Target("n", "192.0.2.1").login == "ssh -p 22 root@192.0.2.1"


def test_the_stack_that_a_machine_names_as_its_owner() -> None:
    theirs = owner.Owner("a/b/c; rm -rf /", "who", "since")
    first, *_ = commands(owner.refusal(theirs, ssh.Target("n", "192.0.2.1"), "ours")["next"])
    assert first == ["pulumi", "destroy", "-s", "a/b/c; rm -rf /"]


def test_an_address_of_a_machine_s_own_package_sources() -> None:
    facts = healthy()
    facts["reach"] = {"a;id:80": "no answer"}
    found = [one for one in network(Observation(facts, 0.0), wanted()) if one.level != "ok"]
    assert commands(found[0].next) == [["curl", "-v", "telnet://a;id:80"]]


def outputs(name: str) -> dict[str, Any]:
    replica = {"name": name, "port": 8000, "model": EVIL}
    return {"replicas": {"glm-1": {"replicas": [replica]}}}


def test_the_two_lines_that_a_table_ends_with() -> None:
    forward, request = show.paste(outputs("glm-0 $(id)"), "la b").splitlines()
    assert shlex.split(forward.partition("; ")[2]) == [
        "fleet",
        "forward",
        "-s",
        "la b",
        "glm-1/glm-0 $(id)",
        "--port",
        "8000",
    ]
    ask = shlex.split(request.partition("; ")[2].partition(" -H @<")[0])
    assert ask[:6] == ["fleet", "request", "bottle-grounding", "--model", EVIL, "|"]
    assert "--show-secrets -s 'la b')" in request


@pytest.mark.parametrize("folder", ["/srv/glm fleet/.pulumi/evidence/lab", "/srv/fleet/.pulumi/evidence/lab"])
def test_the_evidence_of_probes_in_a_checkout_whose_path_has_a_space(folder: str) -> None:
    known = {"verdict": {"evidence": folder}}
    request = base.Request("urn:pulumi:s::p::t::glm-1", lambda *_: None, None)  # type: ignore[arg-type]
    error = serving._probe_failed(request, known, ["wrong"], 0, 1)
    assert shlex.split(error.next.partition(";")[0]) == ["open", f"{folder}/glm-1-*.html"]


def test_no_message_is_one_that_a_shell_or_a_terminal_obeys(tmp_path: Path) -> None:
    """What is quoted is filtered too: an escape sequence in a name is shown, wherever it stands."""
    theirs = owner.Owner.read(json.dumps({"id": "a\x1b[2J", "who": "x", "since": "y"}))
    assert theirs
    said = str(errors.NotReady(**owner.refusal(theirs, ssh.Target("n", "192.0.2.1"), "ours")))
    assert "\x1b" not in said and "'a\\x1b[2J'" in said
