"""A node that knows neighbours, for the tests of fleet/weights_fetcher with neighbours; what it must have in the end.

Needs the hub of weights_hub.py and the sources of weights_source.py.
"""

import json
import os
import pathlib
import sys
from collections.abc import Callable

import pytest

from fleet.weights_fetcher import chunks, fetch, neighbours
from tests.support.environment import expect_success
from tests.support.weights_hub import MODEL, REPOSITORY, REVISION, Hub, Node
from tests.support.weights_source import CHUNK, Pki, Source, listed


class Member(Node):
    """A node that knows neighbours."""

    def __init__(self, folder: pathlib.Path, hub: Hub, pki: Pki, name: str, places: list[neighbours.Place]) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder, hub)
        self.name_, self.pki, self.neighbours = name, pki, folder / "neighbours.json"
        self.lists = folder / REPOSITORY / f".chunks-{REVISION}"
        neighbours.write_places(self.neighbours, places)

    def shared(self) -> list[str]:
        lists = [f"--lists={self.lists}", f"--neighbours={self.neighbours}", f"--name={self.name_}"]
        return [*lists, f"--tls={self.pki.folder}", f"--chunk={CHUNK}"]

    def prepare(self) -> None:
        expect_success(self.run(MODEL, "prepare", f"--lists={self.lists}"))
        self.lists.mkdir(exist_ok=True)  # as the role does

    def take(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
        """Prepare, fetch in this process, finish. Return the fetch's code and output."""
        self.prepare()
        monkeypatch.setattr(sys, "argv", ["fetch-weights", *self.fetching(*self.shared())[3:]])
        capsys.readouterr()
        mask = os.umask(0o022)
        try:
            code = fetch.main()
        finally:
            os.umask(mask)
        if code == 0:
            expect_success(self.run(MODEL, "finish"))
        return code, capsys.readouterr().out


def places(sources: dict[str, Source], absent: int = 1) -> list[neighbours.Place]:
    """Return the fleet: n1, which fetches, and its neighbours."""
    ports = {"n1": absent, **{name: one.server_port for name, one in sources.items()}}
    return [neighbours.Place(name, "127.0.0.1", port, True) for name, port in ports.items()]


Take = Callable[[], tuple[int, str]]


def taken(hub: Hub) -> list[str]:
    """Return the paths of the files that the hub was asked for."""
    return [path for path, _, _ in hub.log if "/resolve/" in path]


def right(member: Member, hub: Hub) -> None:
    """Every file is there with the right bytes, and its list is published."""
    for path, data in hub.files.items():
        assert (member.model / path).read_bytes() == data
        assert json.loads((member.lists / chunks.list_name(path)).read_bytes()) == listed(data)
