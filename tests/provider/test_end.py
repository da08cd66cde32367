"""How running requests end: on Cancel within ten seconds with their state, and with the Pulumi engine, however that ended."""

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
from tests.support.plugin import (
    DEBUG,
    PATIENCE,
    Engine,
    Launch,
    PartialState,
    Plugin,
    Props,
    doing,
    expect_error,
    partial_state,
)

PROGRAMS = ("fleet.ansible.supervisor", "ansible-playbook", "HostKeyAlias=glm-1", "[mux]")


def becomes_true(claim: Callable[[], bool]) -> bool:
    """Return whether the claim holds within PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (holds := claim()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds


def nothing_is_left(plugin: Plugin) -> bool:
    """Return whether its runs have left no process and no private folder."""
    return not plugin.processes() and not any(plugin.runtime.iterdir())


def all_run(plugin: Plugin) -> bool:
    """Return whether each program of a run works, the ssh of the current task too."""
    return all(any(program in line for line in plugin.processes()) for program in PROGRAMS)


@dataclass(frozen=True)
class RunningCreate:
    """A plugin of its own whose create waits on the machine, at the gate in `folder`, with all its processes."""

    plugin: Plugin
    future: grpc.Future
    folder: Path


@pytest.fixture(scope="module")
def running(launch: Launch, inputs: Props, folder: Path) -> list[RunningCreate]:
    """Two simultaneous creates, with an engine that logs everything: one to be cancelled, one to lose its engine."""
    creates = []
    for name in ("cancel", "gone"):
        place = folder / name
        place.mkdir()
        (place / "gate").touch()
        waits = doing(inputs, "wait")
        waits["vars"]["site_dir"] = str(place)
        plugin = launch(Engine(), *DEBUG)
        creates.append(RunningCreate(plugin, plugin.start("Host", waits), place))
    for create in creates:
        create.plugin.engine.hear("site: Ensure the gate is open")
        assert becomes_true(functools.partial(all_run, create.plugin))
    return creates


@dataclass(frozen=True)
class Cancelled:
    """The create's partial state, the seconds from the Cancel to it, and the message of a Node that waited meanwhile."""

    partial: PartialState
    seconds: float
    node: str


@pytest.fixture(scope="module")
def cancelled(running: list[RunningCreate], connection: Props) -> Cancelled:
    host = running[0]
    with socket.create_server(("127.0.0.1", 0)) as socket_server:
        silent_node = {**connection, "port": socket_server.getsockname()[1]}
    node = host.plugin.start("Node", silent_node)
    host.plugin.engine.hear("waits for SSH")
    start = time.monotonic()
    host.plugin.cancel()
    error = expect_error(host.future.result, PATIENCE)
    seconds = time.monotonic() - start
    return Cancelled(partial_state(error), seconds, expect_error(node.result, PATIENCE).details())


def test_a_cancelled_create_ends_within_ten_seconds(cancelled: Cancelled) -> None:
    assert cancelled.seconds < 10


def test_a_cancelled_create_reports_where_it_stopped_and_that_it_can_continue(cancelled: Cancelled) -> None:
    assert cancelled.partial.reasons == [
        "glm-1: site: Ensure the gate is open: cancelled\n"
        f"  next:   see {cancelled.partial.properties['log']}; `pulumi up` goes on where this stopped"
    ]


def test_a_cancelled_create_keeps_its_files_in_its_state(cancelled: Cancelled, running: list[RunningCreate]) -> None:
    text = running[0].folder / "text"
    assert cancelled.partial.id == "host/glm-1"
    assert cancelled.partial.properties["managed"]["declared"] == {f"file {text}": True}
    assert text.read_text() == "hello\n"


def test_a_cancel_ends_every_running_request(cancelled: Cancelled) -> None:
    assert cancelled.node.startswith("glm-1: wait for SSH at root@127.0.0.1:")
    assert cancelled.node.endswith(": cancelled")


def test_a_cancel_leaves_no_process_and_no_file_of_the_run(cancelled: Cancelled, running: list[RunningCreate]) -> None:
    assert becomes_true(lambda: nothing_is_left(running[0].plugin))


def test_an_idle_plugin_ends_with_the_pulumi_engine(cancelled: Cancelled, running: list[RunningCreate]) -> None:
    plugin = running[0].plugin
    assert plugin.process.poll() is None
    plugin.engine.close()
    assert plugin.process.wait(PATIENCE) == 1


def test_after_the_pulumi_engine_s_end_the_plugin_and_its_children_end(running: list[RunningCreate]) -> None:
    """As after kill -9 of the CLI: no Cancel, and the engine's port is closed."""
    plugin = running[1].plugin
    assert not nothing_is_left(plugin)
    plugin.engine.close()
    assert plugin.process.wait(PATIENCE) == 1
    assert becomes_true(lambda: nothing_is_left(plugin))


@pytest.mark.parametrize("flags", [(), DEBUG], ids=["", "debug"])
def test_after_the_pulumi_engine_s_end_the_policy_pack_ends_too(flags: tuple[str, ...]) -> None:
    engine = Engine()
    pack = subprocess.Popen(
        ["sh", ROOT / "bootstrap" / "pulumi" / "policy-py.sh", *flags, engine.address, ROOT / "policies"],
        env={**os.environ, "PULUMI_PYTHON_CMD": sys.executable},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert pack.stdout and int(pack.stdout.readline()), "it prints its port"
        assert pack.poll() is None
        engine.close()
        assert pack.wait(PATIENCE) == 1
    finally:
        pack.kill()
        pack.communicate()
