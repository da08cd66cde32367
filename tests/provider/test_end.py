"""How work in hand ends: by Cancel within ten seconds with its state kept, and with the engine, however that ended."""

import functools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from fleet.provider.base import ROOT
from tests.support.plugin import DEBUG, PATIENCE, Engine, HalfMade, Launch, Plugin, Props, doing, half_made

PROGRAMS = ("fleet.ansible.supervisor", "ansible-playbook", "HostKeyAlias=glm-1", "[mux]")


def comes_true(claim: Callable[[], bool]) -> bool:
    """Wait until it is so, for at most PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (held := claim()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def nothing_is_left(plugin: Plugin) -> bool:
    """Whether no process and no private folder of its runs is there."""
    return not plugin.processes() and not any(plugin.runtime.iterdir())


def all_run(plugin: Plugin) -> bool:
    """Whether each program of a run is at work, the ssh of the current task too."""
    return all(any(program in line for line in plugin.processes()) for program in PROGRAMS)


@dataclass(frozen=True)
class Begun:
    """A plugin of its own whose create waits on the machine, at the gate in `folder`, with all its processes."""

    plugin: Plugin
    made: grpc.Future
    folder: Path


@pytest.fixture(scope="module")
def begun(launch: Launch, inputs: Props, folder: Path) -> list[Begun]:
    """Two of them, begun side by side, with an engine that logs all: one to be cancelled, one to lose its engine."""
    found = []
    for name in ("cancel", "gone"):
        place = folder / name
        place.mkdir()
        (place / "gate").touch()
        waits = doing(inputs, "wait")
        waits["vars"]["site_dir"] = str(place)
        plugin = launch(Engine(), *DEBUG)
        found.append(Begun(plugin, plugin.start("Host", waits), place))
    for one in found:
        one.plugin.engine.hear("site: Ensure the gate is open")
        assert comes_true(functools.partial(all_run, one.plugin))
    return found


@dataclass(frozen=True)
class Cancelled:
    """What the engine was told of the create, how long after the Cancel; in what a Node ended that waited beside it."""

    half: HalfMade
    seconds: float
    node: str


@pytest.fixture(scope="module")
def cancelled(begun: list[Begun], connection: Props) -> Cancelled:
    host = begun[0]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = {**connection, "port": closed.getsockname()[1]}
    node = host.plugin.start("Node", nobody)
    host.plugin.engine.hear("waits for SSH")
    started = time.monotonic()
    host.plugin.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        host.made.result(PATIENCE)
    seconds = time.monotonic() - started
    with pytest.raises(grpc.RpcError) as also:
        node.result(PATIENCE)
    return Cancelled(half_made(caught.value), seconds, also.value.details())


def test_a_cancelled_create_ends_within_ten_seconds(cancelled: Cancelled) -> None:
    assert cancelled.seconds < 10


def test_a_cancelled_create_says_where_it_stopped_and_that_it_can_go_on(cancelled: Cancelled) -> None:
    assert cancelled.half.reasons == [
        "glm-1: site: Ensure the gate is open: cancelled\n"
        f"  next:   see {cancelled.half.properties['log']}; `pulumi up` goes on where this stopped"
    ]


def test_a_cancelled_create_keeps_what_it_had_made(cancelled: Cancelled, begun: list[Begun]) -> None:
    text = begun[0].folder / "text"
    assert cancelled.half.id == "host/glm-1"
    assert cancelled.half.properties["managed"]["declared"] == {f"file {text}": True}
    assert text.read_text() == "hello\n"


def test_a_cancel_ends_every_work_in_hand(cancelled: Cancelled) -> None:
    assert cancelled.node.startswith("glm-1: wait for SSH at root@127.0.0.1:")
    assert cancelled.node.endswith(": cancelled")


def test_a_cancel_leaves_no_process_and_no_file_of_the_run(cancelled: Cancelled, begun: list[Begun]) -> None:
    assert comes_true(lambda: nothing_is_left(begun[0].plugin))


def test_an_idle_plugin_lives_as_long_as_its_engine(cancelled: Cancelled, begun: list[Begun]) -> None:
    plugin = begun[0].plugin
    assert plugin.process.poll() is None
    plugin.engine.close()
    assert plugin.process.wait(PATIENCE) == 1


def test_when_the_engine_is_gone_the_plugin_ends_and_takes_its_children_along(begun: list[Begun]) -> None:
    """As after kill -9 of the CLI: no Cancel comes, the engine's port is closed."""
    plugin = begun[1].plugin
    assert not nothing_is_left(plugin)
    plugin.engine.close()
    assert plugin.process.wait(PATIENCE) == 1
    assert comes_true(lambda: nothing_is_left(plugin))


@pytest.mark.parametrize("flags", [(), DEBUG], ids=["", "debug"])
def test_when_the_engine_is_gone_the_policy_pack_ends_too(flags: tuple[str, ...]) -> None:
    engine = Engine()
    pack = subprocess.Popen(
        ["sh", ROOT / "bootstrap" / "pulumi" / "policy-py.sh", *flags, engine.address, ROOT / "policies"],
        env={**os.environ, "PULUMI_PYTHON_CMD": sys.executable},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert pack.stdout and int(pack.stdout.readline()), "it tells the port on which it serves"
        assert pack.poll() is None
        engine.close()
        assert pack.wait(PATIENCE) == 1
    finally:
        pack.kill()
        pack.communicate()
