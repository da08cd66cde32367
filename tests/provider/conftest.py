"""Fixtures of the tests of the provider: the real plugin process in a tree of its own, a Pulumi engine, an SSH server here.

The tree is this repository's fleet, playbooks and roles, with the playbooks of site/ instead of Host's and Serving's.
"""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.plugin import Engine, Launch, Plugin, Props
from tests.support.ssh_server import Server

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).parent / "site"


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's folder: a copy, since the plugin finds its root from its own path."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("fleet", "playbooks", "roles"):
        shutil.copytree(ROOT / name, tree / name)
    shutil.copytree(SITE, tree, dirs_exist_ok=True)
    shutil.copy(ROOT / "ansible.cfg", tree)
    (tree / ".venv").symlink_to(sys.prefix)  # these tests' environment, with any Python
    return tree


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of logs and evidence."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def launch(tree: Path, state: Path) -> Iterator[Launch]:
    """Start plugins beside an engine; none outlives the tests."""
    with contextlib.ExitStack() as started:

        def launch(engine: Engine, *flags: str) -> Plugin:
            runtime = tempfile.TemporaryDirectory(prefix="t-", dir="/dev/shm")  # a short path, for the sockets in it
            plugin = Plugin(tree, engine, Path(started.enter_context(runtime)), state, *flags)
            started.callback(plugin.close)
            return plugin

        yield launch


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def plugin(launch: Launch, shared_engine: Engine) -> Plugin:
    """A plugin for all requests that do not end it."""
    return launch(shared_engine)


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    """Its engine, with no line yet."""
    shared_engine.lines.clear()
    return shared_engine


@pytest.fixture
def fresh_plugin(launch: Launch) -> Iterator[Plugin]:
    """A plugin without an earlier request, as at the start of each run, with an engine of its own."""
    plugin = launch(Engine())
    yield plugin
    plugin.engine.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The machine glm-1: an SSH server in this process."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def connection(server: Server) -> Props:
    """The machine's connection, as a Node's output has it."""
    keys = ("name", "address", "port", "user", "identity", "host_key", "become")
    return {key: getattr(server.target, key) for key in keys}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the role `site` changes; the end opens every gate in it, or a run would wait there for ever."""
    folder = tmp_path_factory.mktemp("site")
    yield folder
    for gate in folder.rglob("gate"):
        gate.unlink()


@pytest.fixture(scope="module")
def inputs(connection: Props, folder: Path) -> Props:
    """The inputs of a Host whose role does nothing unusual."""
    return {
        "node": connection,
        "roles": {"site": "1  tasks/main.yml"},
        "vars": {"site_dir": str(folder), "site_text": "hello", "site_does": "nothing"},
    }
