"""Claims about reading together: simultaneous requests for one node share one connection and one command."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet import errors
from fleet.managed import managed_set, reader
from tests.support.ssh_server import Server


def declared(*paths: Path) -> managed_set.Declared:
    return managed_set.Declared({f"file {path}": False for path in paths})


def test_concurrent_reads_of_one_node_use_one_connection_and_one_exec(server: Server, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    server.gate.clear()  # delays the connection, so that all requests wait for it
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(reader.read_many, server.target, [declared(path)]) for path in paths]
        assert server.arrived.wait(10)
        while len(reader._open[server.target].declared) < len(paths):
            time.sleep(0.01)
        server.gate.set()
        states = [future.result()[0] for future in futures]
    assert (server.connections, len(server.commands)) == (1, 1)
    assert [list(state) for state in states] == [[f"file {path}"] for path in paths]


@pytest.mark.slow
def test_a_read_shares_an_open_connection_while_others_still_arrive(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor() as pool:
        monkeypatch.setattr(reader, "QUIET", 0.0)
        server.gate.clear()
        first = pool.submit(reader.read_many, server.target, [declared(tmp_path / "a")])
        assert server.arrived.wait(10)
        monkeypatch.setattr(reader, "QUIET", 3.0)
        server.gate.set()
        while not (server._transports and server._transports[0].is_authenticated()):
            assert not first.done()
        second = pool.submit(reader.read_many, server.target, [declared(tmp_path / "b")])
        states = [future.result()[0] for future in (first, second)]
    assert [list(state) for state in states] == [[f"file {tmp_path}/{name}"] for name in "ab"]
    assert (server.connections, len(server.commands)) == (1, 1)


def test_a_later_read_asks_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    first = reader.read_many(server.target, [declared(path)])
    path.write_text("2")
    second = reader.read_many(server.target, [declared(path)])
    assert first != second
    assert server.connections == 2


def test_each_set_gets_its_own_part(server: Server, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"files": {"model.bin": {"size": 3}}}')
    (tmp_path / "model.bin").write_text("abc")
    first, second = reader.read_many(server.target, [declared(tmp_path / "manifest.json"), declared(tmp_path / "none")])
    assert list(first) == [f"file {tmp_path}/manifest.json", f"files of {tmp_path}/manifest.json"]
    assert second == {f"file {tmp_path}/none": {}}


def test_every_read_of_an_unreachable_node_fails(server: Server) -> None:
    nowhere = dataclasses.replace(server.target, port=1)
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(reader.read_many, nowhere, [managed_set.Declared()]) for _ in range(3)]:
            with pytest.raises(errors.Unreachable):
                future.result()
    assert nowhere not in reader._open


def test_a_host_that_returns_no_state_is_drift_unreadable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "READER", Path(__file__))
    with pytest.raises(errors.DriftUnreadable, match="exit code 1"):
        reader.read_many(server.target, [managed_set.Declared({"file /etc/hostname": False})])
