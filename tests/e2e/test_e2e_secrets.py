"""A stack's secrets are where they must be, and nowhere else; and a new API key costs one restart of each replica.

Comes last before the teardown: the search covers what all runs and failures left.
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
from tests.support.e2e import NODES, STACK, Road, forecast
from tests.support.environment import expect_failure, expect_success

STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"  # systemd's id of the message that a unit starts
# Where a node has the API key, and whose it is: the replicas', and that of the proxy before them.
KEY_FILES = {"/etc/fleet/vllm/key.env": "600 root:root", "/etc/fleet/proxy/key.map": "640 root:fleet-proxy"}
SERVED_BY = 10001  # the user in the container


def new_key() -> str:
    """Return a key with characters that a URL encodes."""
    return f"+/{base64.b64encode(secrets.token_bytes(30)).decode()}"


def snapshot(road: Road, node: str) -> dict[str, str]:
    """Return what a restart of a replica leaves alone: the boot, the Docker daemon's start, the sum of every configured file."""
    files = "find /etc /usr/local -xdev -type f -print0 | xargs -0 sha256sum"
    sums = dict(line.split(maxsplit=1)[::-1] for line in road.on(node, files).splitlines())
    daemon = road.on(node, "systemctl show -P ActiveEnterTimestampMonotonic docker.service")
    return {"boot": road.boot_id(node), "daemon": daemon, **sums}


def starts(road: Road, node: str) -> int:
    """Return how often systemd has begun to start the replica."""
    return int(road.on(node, f"journalctl -q -o cat MESSAGE_ID={STARTING} UNIT=glm-0.service | wc -l"))


def containers(road: Road, node: str, since: float) -> int:
    """Return how many containers of the replica have started since then."""
    filters = "--filter container=glm-0 --filter event=start"
    return len(road.on(node, f"docker events --since {since:.0f} --until 0s {filters}").splitlines())


def status(road: Road, node: str, key: str) -> int:
    """Return the status of the API's answer to this key."""
    with stack_outputs.tunnel(stack_outputs.choose(road.outputs(), node)[0]) as url:
        return httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code


class Secrets:
    """The keys of this stack, and everything that its commands printed while they were in use."""

    def __init__(self, road: Road) -> None:
        self.first = road.outputs()["api_key"]
        self.refused, self.new = f"two words {secrets.token_hex(8)}", new_key()
        token = road.run("pulumi", "config", "get", "weights_token", "--stack", STACK).stdout.strip()
        keys = {"first key": self.first, "refused key": self.refused, "new key": self.new}
        self.values = {**keys, "weights token": token}
        self.needles = leaks.Needles(self.values)
        self.watch = leaks.Watch(self.needles)
        self.outputs: dict[str, str] = {}
        self.since = time.time()


@pytest.fixture(scope="module")
def stack_secrets(road: Road, first_up: str) -> Iterator[Secrets]:
    stack_secrets = Secrets(road)
    with stack_secrets.watch:
        yield stack_secrets


def test_a_key_that_no_client_can_send_fails_before_anything_restarts_and_no_output_repeats_it(
    road: Road, stack_secrets: Secrets
) -> None:
    before = {node: starts(road, node) for node in NODES}
    road.set_secret("vllm_api_key", stack_secrets.refused)
    output = stack_secrets.outputs["a failed up"] = expect_failure(road.up())
    assert "glm-1: vllm: Check the API key: VLLM_API_KEY is not one word" in output
    assert "next:   `pulumi config set --secret vllm_api_key …`" in output
    assert {node: starts(road, node) for node in NODES} == before


def test_a_preview_reports_a_new_key_which_costs_one_restart_of_each_replica_and_nothing_else(
    road: Road, stack_secrets: Secrets
) -> None:
    before = {node: snapshot(road, node) for node in NODES}
    old_starts, since, old_logs = {node: starts(road, node) for node in NODES}, time.time(), set(logs(road))
    road.set_secret("vllm_api_key", stack_secrets.new)
    preview = stack_secrets.outputs["preview"] = expect_success(road.preview())
    stack_secrets.outputs["preview in full"] = road.preview("--diff").stdout
    assert "glm-1, glm-2: restart glm-0, about N s each, 1 at a time: the API key changed" in forecast(preview), preview
    stack_secrets.outputs["up"] = expect_success(road.up())
    new_logs = sorted(name.rsplit("-", 2)[0] for name in {*logs(road)} - old_logs)
    assert new_logs == [f"lab-{kind}-{node}" for kind in ("gateway", "serving") for node in NODES]
    for node in NODES:
        now = snapshot(road, node)
        assert {name for name in {*before[node], *now} if before[node].get(name) != now.get(name)} == {*KEY_FILES}
        assert (starts(road, node) - old_starts[node], containers(road, node, since)) == (1, 1)
        assert (status(road, node, stack_secrets.new), status(road, node, stack_secrets.first)) == (200, 401)
    road.expect_no_changes()


def logs(road: Road) -> list[str]:
    return [path.name for path in (road.home / ".pulumi" / "logs").iterdir()]


def test_the_tools_ask_with_the_new_key(road: Road, stack_secrets: Secrets) -> None:
    reports = [f"--{option}={road.home}/.pulumi/probes.{option}" for option in ("junit", "html")]
    command = ("fleet", "probe", "-s", STACK, "glm-1/glm-0", "--case", "bottle-grounding", "--json", *reports)
    stack_secrets.outputs["fleet probe"] = expect_success(road.run(*command))
    stack_secrets.outputs["fleet show"] = road.run("fleet", "show", "-s", STACK).stdout
    assert road.paste().startswith("<|begin_of_box|>[[")


COMMANDS = {
    "export": "pulumi stack export",
    "outputs": "pulumi stack output --json",
    "settings": "pulumi config --json",
    "history": "pulumi stack history --json",
    "preview in JSON": "pulumi preview --json --refresh --policy-pack policies",
    "preview with what the SDK does": "FLEET_DEBUG=1 pulumi preview --debug --policy-pack policies",
}


def test_a_secret_is_nowhere_but_where_it_must_be(road: Road, stack_secrets: Secrets) -> None:
    outputs, needles, watch = stack_secrets.outputs, stack_secrets.needles, stack_secrets.watch
    for name, command in COMMANDS.items():
        run = road.run("bash", "-c", f"{command} --stack {STACK}")
        assert run.returncode == 0, needles.hide(run.stdout)
        outputs[name] = run.stdout
    leaks_found = [f"{name}: {leak}" for name, text in outputs.items() for leak in needles.of(text.encode())]
    leaks_found += [f"the controller: {leak}" for leak in on_controller(road, stack_secrets)]
    for node in NODES:
        leaks_found += [f"{node}: {leak}" for leak in on_node(road, node, stack_secrets.values)]
    leaks_found += [f"while it ran: {held}" for held in watch.seen if not may_hold(held)]
    assert leaks_found == []
    runs = [held for held in watch.seen if "/ansible-playbook " in held.words and held.where == "environment"]
    assert {held.leak for held in runs} == {"refused key in clear", "new key in clear"}, (
        "the watch sees what a run gets"
    )


def on_controller(road: Road, stack_secrets: Secrets) -> list[str]:
    """Search the project with its whole state, and the new files in the temporary folders."""
    home = Path.home()
    places = ["/tmp", "/var/tmp", "/dev/shm", "/run", f"{home}/.ansible", f"{home}/.pulumi"]
    project = stack_secrets.needles.in_files([str(road.home)])
    return [*project, *stack_secrets.needles.in_files(places, skip=[str(road.home)], since=stack_secrets.since)]


def on_node(road: Road, node: str, values: Mapping[str, str]) -> list[str]:
    """Search a node, less what must be there: the key files, which only their reader may read, and the server's environment."""
    command = ("docker", "exec", "-i", f"{road.lab}-{node}", "python3", "-I", "-")
    run = subprocess.run(command, input=leaks.on_node(values), capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    lines: list[str] = json.loads(run.stdout)
    keys = [f"{file}: new key in clear" for file in KEY_FILES]
    assert {*keys} <= {*lines}, "it searches where the key is"
    for file, access in KEY_FILES.items():
        assert road.on(node, f"stat -c '%a %U:%G' {file}") == access
    server = f"environment of a process of user {SERVED_BY}: new key in clear: "
    return [leak for leak in lines if leak not in keys and not leak.startswith(server)]


def may_hold(held: leaks.Held) -> bool:
    """Return whether it is a run of this user, or the server inside its container on its node: each gets secrets in its environment."""
    return held.where == "environment" and held.user == (SERVED_BY if held.inside else os.getuid())
