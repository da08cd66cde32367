"""The secrets of a stack stand where they must, and nowhere else; and a new API key costs one restart of each replica.

Goes last on the road, before it is taken off: what all its runs and failures left is searched, too.
"""

import base64
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from fleet.cli import stack_outputs
from tests.support import leaks
from tests.support.e2e import NODES, STACK, Road, boots, foretold

STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"  # systemd's id of the message that a unit is being started
KEY_FILE = "/etc/fleet/vllm/key.env"
SERVED_BY = 10001  # the user in the container


def new_key() -> str:
    """A key with characters that are written otherwise in a URL."""
    return f"+/{base64.b64encode(secrets.token_bytes(30)).decode()}"


def seen_on(road: Road, node: str) -> dict[str, str]:
    """What a restart of a replica leaves alone: boots, the engine's start, the sum of every file that we or others configure."""
    files = "find /etc /usr/local -xdev -type f -print0 | xargs -0 sha256sum"
    sums = dict(line.split(maxsplit=1)[::-1] for line in road.on(node, files).splitlines())
    engine = road.on(node, "systemctl show -P ActiveEnterTimestampMonotonic docker.service")
    return {"boot": boots(road)[node], "engine": engine, **sums}


def starts(road: Road, node: str) -> int:
    """How often systemd has begun to start the replica."""
    return int(road.on(node, f"journalctl -q -o cat MESSAGE_ID={STARTING} UNIT=glm-0.service | wc -l"))


def containers(road: Road, node: str, since: float) -> int:
    """How many containers of the replica were started since then."""
    told = road.on(node, f"docker events --since {since:.0f} --until 0s --filter container=glm-0 --filter event=start")
    return len(told.splitlines())


def status(road: Road, node: str, key: str) -> int:
    """What the API answers to this key."""
    with stack_outputs.tunnel(stack_outputs.choose(road.outputs(), node)[0]) as url:
        return httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code


class Told:
    """The keys of this stack, and everything that was said while they were in use."""

    def __init__(self, road: Road) -> None:
        self.first = road.outputs()["api_key"]
        self.refused, self.new = f"two words {secrets.token_hex(8)}", new_key()
        token = road.run("pulumi", "config", "get", "weights_token", "--stack", STACK).stdout.strip()
        self.values = {
            "first key": self.first,
            "refused key": self.refused,
            "new key": self.new,
            "weights token": token,
        }
        self.needles = leaks.Needles(self.values)
        self.watch = leaks.Watch(self.needles)
        self.said: dict[str, str] = {}
        self.since = time.time()


@pytest.fixture(scope="module")
def told(road: Road, first_up: str) -> Iterator[Told]:
    told = Told(road)
    with told.watch:
        yield told


def test_a_key_that_no_client_can_send_fails_before_anything_restarts_and_is_not_repeated(
    road: Road, told: Told
) -> None:
    before = {node: starts(road, node) for node in NODES}
    road.set_secret("vllm_api_key", told.refused)
    failed = road.up()
    told.said["a failed up"] = failed.stdout
    assert failed.returncode != 0
    assert "glm-1: vllm: Check the API key: VLLM_API_KEY is not one word" in failed.stdout
    assert "next:   `pulumi config set --secret vllm_api_key …`" in failed.stdout
    assert {node: starts(road, node) for node in NODES} == before


def test_a_new_key_is_told_and_costs_one_restart_of_each_replica_and_nothing_else(road: Road, told: Told) -> None:
    old, new = told.first, told.new
    before = {node: seen_on(road, node) for node in NODES}
    begun, since, logs = {node: starts(road, node) for node in NODES}, time.time(), set(logs_of(road))
    road.set_secret("vllm_api_key", new)
    seen = road.preview()
    told.said["preview"], told.said["preview in full"] = seen.stdout, road.preview("--diff").stdout
    assert seen.returncode == 0, seen.stdout
    assert "glm-1, glm-2: restart glm-0, about N s each: the API key changed" in foretold(seen.stdout), seen.stdout
    done = road.up()
    told.said["up"] = done.stdout
    assert done.returncode == 0, done.stdout
    ran = sorted(name.rsplit("-", 2)[0] for name in {*logs_of(road)} - logs)
    assert ran == [f"lab-serving-{node}" for node in NODES]
    for node in NODES:
        now = seen_on(road, node)
        assert {name for name in {*before[node], *now} if before[node].get(name) != now.get(name)} == {KEY_FILE}
        assert (starts(road, node) - begun[node], containers(road, node, since)) == (1, 1)
        assert (status(road, node, new), status(road, node, old)) == (200, 401)
    again = road.preview("--refresh", "--expect-no-changes")
    assert again.returncode == 0, again.stdout


def logs_of(road: Road) -> list[str]:
    return [path.name for path in (road.home / ".pulumi" / "logs").iterdir()]


def test_the_tools_ask_with_the_new_key(road: Road, told: Told) -> None:
    files = {kind: road.home / ".pulumi" / f"probes.{kind}" for kind in ("xml", "html")}
    reports = [f"--junit={files['xml']}", f"--html={files['html']}"]
    asked = road.run("fleet", "probe", "-s", STACK, "glm-1/glm-0", "--case", "bottle-grounding", "--json", *reports)
    told.said["fleet probe"] = asked.stdout
    assert asked.returncode == 0, asked.stdout
    told.said["fleet show"] = road.run("fleet", "show", "-s", STACK).stdout
    assert road.paste().startswith("<|begin_of_box|>[[")


ASKED = {
    "export": "pulumi stack export",
    "outputs": "pulumi stack output --json",
    "settings": "pulumi config --json",
    "history": "pulumi stack history --json",
    "preview in JSON": "pulumi preview --json --refresh --policy-pack policies",
    "preview with what the SDK does": "FLEET_DEBUG=1 pulumi preview --debug --policy-pack policies",
}


def test_a_secret_is_nowhere_but_where_it_must_be(road: Road, told: Told) -> None:
    for name, command in ASKED.items():
        said = road.run("bash", "-c", f"{command} --stack {STACK}")
        assert said.returncode == 0, told.needles.hide(said.stdout)
        told.said[name] = said.stdout
    found = [f"{name}: {leak}" for name, text in told.said.items() for leak in told.needles.of(text.encode())]
    found += [f"the controller: {leak}" for leak in on_controller(road, told)]
    for node in NODES:
        found += [f"{node}: {leak}" for leak in on_node(road, node, told.values)]
    found += [f"while it ran: {held}" for held in told.watch.seen if not may_hold(held)]
    assert found == []
    runs = [held for held in told.watch.seen if "/ansible-playbook " in held.words and held.where == "environment"]
    assert {held.told for held in runs} == {"refused key in clear", "new key in clear"}, (
        "the watch sees what runs are given"
    )


def on_controller(road: Road, told: Told) -> list[str]:
    """Search the project with its whole state, and what anything has written since to the places for files of a while."""
    home = Path.home()
    places = ["/tmp", "/var/tmp", "/dev/shm", "/run", f"{home}/.ansible", f"{home}/.pulumi"]
    return [
        *told.needles.in_files([str(road.home)]),
        *told.needles.in_files(places, skip=[str(road.home)], since=told.since),
    ]


def on_node(road: Road, node: str, values: Mapping[str, str]) -> list[str]:
    """Search a node, and take out what must be there: the key file, which is root's alone, and the server's environment."""
    done = subprocess.run(
        ["docker", "exec", "-i", f"{road.lab}-{node}", "python3", "-I", "-"],
        input=leaks.on_node(values), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    assert f"{KEY_FILE}: new key in clear" in found, "it searches where the key is"
    assert road.on(node, f"stat -c '%a %U:%G' {KEY_FILE}") == "600 root:root"
    served = f"environment of a process of user {SERVED_BY}: new key in clear: "
    return [leak for leak in found if leak != f"{KEY_FILE}: new key in clear" and not leak.startswith(served)]


def may_hold(held: leaks.Held) -> bool:
    """A run gets its secrets in its environment, which its own user reads; so does the server, inside its container on its node."""
    return held.where == "environment" and held.user == (SERVED_BY if held.inside else os.getuid())
