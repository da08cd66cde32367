"""The files that the role vllm writes: unit, configuration and environment for each network, and the programs that start the container.

One run of ansible-playbook renders all files for all variants; the container's programs run in a folder of the test.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer
from typing import Any

import pytest
import yaml

from fleet.stack import role_files

ROLE = pathlib.Path(__file__).parents[2] / "roles" / "vllm"
REPLICA = {"name": "glm-0", "port": 8000, "gpus": [0, 1, 2, 3]}
# The machine as the role read it: half of its GPUs are the replica's.
MACHINE = {"cores": 96, "gpus": [{"node": f"renderD{128 + card}"} for card in range(8)], "groups": [992]}
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "bridge": {"vllm_network": "bridge"},
    "host": {"vllm_network": "host"},
    "recipe": {"vllm_host_network": True, "vllm_host_address": "0.0.0.0"},
    "old spelling": {"vllm_host_network": True, "vllm_network": "none"},
    "own": {
        "vllm_home": "/run/vllm",
        "vllm_stop_timeout": 30,
        "vllm_start_timeout": 600,
        "vllm_cold_start_timeout": 900,
        "vllm_socket_group": "haproxy",
        "vllm_environment": {"MAX_JOBS": "3", "GLOO_SOCKET_IFNAME": "eth1", "USER": "me"},
        "vllm_flags": {
            "allowed-origins": ["https://a.example"],
            "disable-fastapi-docs": False,
            "shutdown-timeout": None,
        },
    },
    "small": {"_cores": 8, "vllm_replicas": [{"name": "glm-0", "gpus": [0]}]},
    "cpu": {"_cores": 8, "vllm_replicas": [{"name": "glm-0"}]},
}
FILES = ("replica.service", "config.yaml", "environment", "wait-healthy", "start.sh", "prepare.py")
Rendered = dict[str, dict[str, str]]  # variant → file → text


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("rendered")
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    common = {
        "vllm_image": f"r.example/a@sha256:{'ab' * 32}",
        "vllm_model_dir": "/srv/models/m",
        "ansible_managed": "x",
    }
    texts = {file: f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/{file}.j2') }}}}" for file in FILES}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / "vars/main.yml")],
    }
    plays = []
    for own in VARIANTS.values():
        machine = {**MACHINE, "cores": own.get("_cores", MACHINE["cores"]), "units": []}
        values = {**defaults, "vllm_replicas": [REPLICA], **common, **own, "ansible_python_interpreter": sys.executable}
        values["__vllm_read"] = {"stdout": json.dumps(machine)}
        item = {"item": values["vllm_replicas"][0], "texts": texts}
        task = {"ansible.builtin.debug": {"msg": "{{ texts }}"}, "vars": item}  # `debug` runs nothing: a second for all
        plays.append({**play, "vars": values, "tasks": [task]})
    (folder / "all.yml").write_text(yaml.safe_dump(plays))
    command = [pathlib.Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", folder / "all.yml"]
    env = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert process.returncode == 0, process.stdout + process.stderr
    results = [play["tasks"][0]["hosts"]["localhost"]["msg"] for play in json.loads(process.stdout)["plays"]]
    return dict(zip(VARIANTS, results, strict=True))


def docker_run(files: dict[str, str]) -> list[str]:
    """Return the words of `docker run`."""
    unit = files["replica.service"].replace("\\\n", " ")
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    return line.split()


def environment(files: dict[str, str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in files["environment"].splitlines() if line and line[0] != "#")


@pytest.mark.parametrize("network", ["none", "bridge", "host", "recipe", "old spelling"])
def test_no_port_is_ever_published(rendered: Rendered, network: str) -> None:
    assert "--publish" not in rendered[network]["replica.service"]
    option = "--network=host" if network in ("recipe", "old spelling") else f"--network={network}"
    assert [word for word in docker_run(rendered[network]) if word.startswith("--network")] == [option]


@pytest.mark.parametrize("network", ["none", "bridge"])
def test_the_server_listens_on_a_socket_in_a_fresh_folder(rendered: Rendered, network: str) -> None:
    unit, run = rendered[network]["replica.service"], docker_run(rendered[network])
    assert "--uds=/run/fleet/sock" in run
    assert "--mount=type=bind,source=/run/fleet/glm-0,target=/run/fleet" in run
    assert not [word for word in run if word.startswith(("--host", "--port"))]
    steps = [line for line in unit.splitlines() if line.startswith("ExecStartPre=")]
    assert steps == [
        "ExecStartPre=-/usr/bin/timeout 60 /usr/bin/docker rm --force glm-0",
        "ExecStartPre=/bin/chown -hRP 10001 /var/cache/vllm/abababababab/glm-0",
        "ExecStartPre=/bin/rm -rf /run/fleet/glm-0",
        "ExecStartPre=/usr/bin/install -d -m 2750 -o 10001 -g fleet-proxy /run/fleet/glm-0",
    ]
    assert "ExecStopPost=-/bin/rm -rf /run/fleet/glm-0\n" in unit
    waits = "wait-healthy /run/fleet/glm-0/sock /var/cache/vllm/abababababab/.served-glm-0 1800 5400\n"
    assert f"ExecStartPost=/usr/local/lib/fleet/{waits}" in unit


@pytest.mark.parametrize(
    ("network", "address"), [("host", "127.0.0.1"), ("old spelling", "127.0.0.1"), ("recipe", "0.0.0.0")]
)
def test_with_the_hosts_network_the_server_listens_on_its_port(rendered: Rendered, network: str, address: str) -> None:
    unit, run = rendered[network]["replica.service"], docker_run(rendered[network])
    assert run[-2:] == [f"--host={address}", "--port=8000"]
    assert "--uds" not in unit and not [word for word in run if "/run/fleet" in word]
    assert "ExecStartPre=/bin/rm -rf /run/fleet/glm-0\n" in unit  # of another network before
    assert "wait-healthy 8000 /var/cache/vllm/abababababab/.served-glm-0 1800 5400\n" in unit


@pytest.mark.parametrize(
    ("network", "interface"), [("none", "lo"), ("bridge", "eth0"), ("host", "lo"), ("own", "eth1")]
)
def test_ranks_connect_on_the_containers_own_interface(rendered: Rendered, network: str, interface: str) -> None:
    assert environment(rendered[network]).get("GLOO_SOCKET_IFNAME") == interface


def test_code_is_compiled_and_loaded_on_the_caches_disk(rendered: Rendered) -> None:
    own = environment(rendered["none"])
    names, folders = ("HOME", "AITER_ROOT_DIR", "TMPDIR", "AITER_JIT_DIR"), ("home", "home/.aiter", "tmp", "aiter")
    assert [own[name] for name in names] == [f"/var/cache/vllm/{folder}" for folder in folders]
    assert (own["USER"], own["LOGNAME"]) == ("vllm", "vllm")
    back = environment(rendered["own"])
    assert (back["HOME"], back["AITER_ROOT_DIR"], back["USER"]) == ("/run/vllm", "/run/vllm/.aiter", "me")


def test_the_vllm_server_waits_as_long_as_the_unit(rendered: Rendered) -> None:
    assert environment(rendered["none"])["VLLM_ENGINE_READY_TIMEOUT_S"] == "5400"
    assert "TimeoutStartSec=5460\n" in rendered["none"]["replica.service"]
    assert environment(rendered["own"])["VLLM_ENGINE_READY_TIMEOUT_S"] == "900"
    assert ".served-glm-0 600 900\n" in rendered["own"]["replica.service"]


@pytest.mark.parametrize(("variant", "jobs"), [("none", "24"), ("small", "1"), ("cpu", "4"), ("own", None)])
def test_compilers_have_half_of_the_replicas_share_of_the_cores(
    rendered: Rendered, variant: str, jobs: str | None
) -> None:
    options = [word for word in docker_run(rendered[variant]) if word.startswith("--env=MAX_JOBS=")]
    assert options == ([f"--env=MAX_JOBS={jobs}"] if jobs else [])
    assert environment(rendered[variant]).get("MAX_JOBS") == (None if jobs else "3")


def test_no_origin_is_allowed_docs_are_disabled_and_a_stop_has_45_seconds(rendered: Rendered) -> None:
    config = yaml.safe_load(rendered["none"]["config.yaml"])
    expected = {"allowed-origins": "[]", "disable-fastapi-docs": True, "shutdown-timeout": 45}
    assert {name: config[name] for name in expected} == expected


def test_a_stack_can_override_these_flags(rendered: Rendered) -> None:
    config = yaml.safe_load(rendered["own"]["config.yaml"])
    assert json.loads(config["allowed-origins"]) == ["https://a.example"]
    assert config["disable-fastapi-docs"] is False and "shutdown-timeout" not in config


def test_the_socket_belongs_to_the_group_that_may_connect(rendered: Rendered) -> None:
    assert "install -d -m 2750 -o 10001 -g haproxy /run/fleet/glm-0\n" in rendered["own"]["replica.service"]


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def prepare(
    rendered: Rendered, cache: pathlib.Path, site: pathlib.Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run prepare.py with `cache` for the replica's, in a Python that has the packages of `site`."""
    text = rendered["none"]["prepare.py"].replace("/var/cache/vllm", str(cache))
    own = {"TMPDIR": f"{cache}/tmp", "AITER_JIT_DIR": f"{cache}/aiter", "PYTHONPATH": str(site or "/nowhere")}
    (cache / "tmp").mkdir(exist_ok=True)
    return subprocess.run([sys.executable, "-c", text], env=own, capture_output=True, text=True)


def below(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_start_removes_the_locks_of_a_killed_one_and_nothing_else(
    rendered: Rendered, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    outside = tmp_path / "outside"
    for folder in (outside, cache / "home/.aiter/build/x", cache / "lock"):
        folder.mkdir(parents=True)
    left = ["aiter/lock_module_a", "home/.aiter/build/x/lock", "home/.aiter/build/x/.ninja_lock", "a.lock", "a.steal"]
    kept = ["lock/module.so", "blocks", "home/.aiter/build/x/lib.so", "locker", "a.lock.json"]
    (cache / "aiter").mkdir()
    for name in (*left, *kept):
        (cache / name).write_text("1 host")
    (outside / "lock").write_text("another's")
    (cache / "elsewhere").symlink_to(outside)
    (cache / "to.lock").symlink_to(outside / "lock")
    process = prepare(rendered, cache)
    assert process.returncode == 0, process.stderr
    assert [name for name in left if (cache / name).exists()] == []
    assert [name for name in kept if not (cache / name).exists()] == []
    assert (outside / "lock").read_text() == "another's" and not (cache / "to.lock").is_symlink()


def test_a_start_removes_the_temporary_files_of_a_killed_one(
    rendered: Rendered, cache: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (cache / "tmp").mkdir()
    (cache / "tmp/half.o").write_text("x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("another's")
    (cache / "tmp/link").symlink_to(tmp_path / "outside")
    assert prepare(rendered, cache).returncode == 0
    assert below(cache / "tmp") == [] and (tmp_path / "outside/file").exists()


@pytest.fixture
def site(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with a package `aiter` that records its import, which takes minutes on a GPU."""
    jit = tmp_path / "site/aiter/jit"
    jit.mkdir(parents=True)
    (tmp_path / "site/aiter/__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    for name in ("module_a.so", "module_b.so", "core.py"):
        (jit / name).write_text("of the image")
    return tmp_path / "site"


def test_kernels_of_the_image_are_linked_into_aiters_folder(
    rendered: Rendered, cache: pathlib.Path, site: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for _ in range(2):  # a second start keeps its own links
        process = prepare(rendered, cache, site)
        assert process.returncode == 0, process.stderr
        assert below(cache / "aiter") == ["module_a.so", "module_b.so"]
        assert (cache / "aiter/module_a.so").readlink() == site / "aiter/jit/module_a.so"
    assert not (tmp_path / "imported").exists()


def test_a_kernel_that_was_built_here_is_kept(rendered: Rendered, cache: pathlib.Path, site: pathlib.Path) -> None:
    (cache / "aiter").mkdir()
    (cache / "aiter/module_a.so").write_text("built here")
    (cache / "aiter/module_b.so").symlink_to("/of/an/older/path.so")
    assert prepare(rendered, cache, site).returncode == 0
    assert (cache / "aiter/module_a.so").read_text() == "built here"
    assert (cache / "aiter/module_b.so").read_text() == "of the image"


def test_an_image_without_aiter_starts_too(rendered: Rendered, cache: pathlib.Path) -> None:
    process = prepare(rendered, cache)
    assert (process.returncode, process.stderr) == (0, "") and not (cache / "aiter").exists()


@pytest.mark.parametrize("command", ["program", "python"])
def test_the_server_has_the_key_its_folders_and_no_input(
    rendered: Rendered, cache: pathlib.Path, tmp_path: pathlib.Path, command: str
) -> None:
    """`prepare` runs in the Python of the server: the one of its first line, or the command itself."""
    (tmp_path / "prepare.py").write_text("import sys; print('prepared by', sys.executable, sys.stdin.read())")
    shows = "print(os.environ['VLLM_API_KEY'], repr(sys.stdin.read()), oct(os.umask(0)), sys.argv[1:])"
    server = tmp_path / "vllm"
    server.write_text(f"#!{sys.executable}\nimport os, sys\n{shows}\n")
    server.chmod(0o755)
    start = tmp_path / "start.sh"
    start.write_text(rendered["none"]["start.sh"].replace("/etc/vllm-prepare.py", str(tmp_path / "prepare.py")))
    serve = [str(server)] if command == "program" else [sys.executable, str(server)]
    line = ["/bin/sh", str(start), *serve, "--config", "a b"]
    env = {"HOME": f"{cache}/home", "TMPDIR": f"{cache}/tmp", "PATH": "/usr/bin:/bin"}
    process = subprocess.run(line, input="VLLM_API_KEY=abc\nmore\n", env=env, capture_output=True, text=True)
    assert process.stdout.splitlines() == [f"prepared by {sys.executable} ", "abc '' 0o7 ['--config', 'a b']"], (
        process.stderr
    )
    assert below(cache) == ["home", "tmp"]


class Health(BaseHTTPRequestHandler):
    """Answers /health with the status that the test sets."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def address_string(self) -> str:
        return "a client"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def healthy(tmp_path: pathlib.Path) -> Iterator[str]:
    where = str(tmp_path / "sock")
    with UnixStreamServer(where, Health) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield where
        server.shutdown()
        thread.join()


def wait(
    rendered: Rendered, where: str, served: pathlib.Path, warm: int = 1, cold: int = 2, main: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run wait-healthy as the unit does, beside the main process of this id: by default one that runs."""
    command = [sys.executable, "-c", rendered["none"]["wait-healthy"], where, str(served), str(warm), str(cold)]
    return subprocess.run(command, env={"MAINPID": str(main)}, capture_output=True, text=True, timeout=20)


def test_a_healthy_answer_on_the_socket_is_recorded(rendered: Rendered, healthy: str, tmp_path: pathlib.Path) -> None:
    assert wait(rendered, healthy, tmp_path / "served").returncode == 0
    assert (tmp_path / "served").exists()


def test_an_answer_other_than_200_is_not_healthy(
    rendered: Rendered, healthy: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Health, "status", 503)
    process = wait(rendered, healthy, tmp_path / "served")
    assert process.returncode == 1 and not (tmp_path / "served").exists()


@pytest.mark.parametrize(("before", "seconds"), [(False, 2), (True, 1)])
def test_a_cold_start_has_more_time(rendered: Rendered, tmp_path: pathlib.Path, before: bool, seconds: int) -> None:
    if before:
        (tmp_path / "served").touch()
    started = time.monotonic()
    process = wait(rendered, str(tmp_path / "sock"), tmp_path / "served")
    assert process.stderr == f"/health did not answer 200 within {seconds} s\n"
    assert time.monotonic() - started >= seconds


def test_the_wait_connects_to_the_port_with_the_hosts_network(rendered: Rendered, tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.0 200 OK\r\n\r\n"))
        answering.start()
        assert wait(rendered, str(server.getsockname()[1]), tmp_path / "served").returncode == 0
        answering.join()


def test_a_server_that_has_ended_ends_the_wait_at_once(rendered: Rendered, tmp_path: pathlib.Path) -> None:
    process = wait(rendered, str(tmp_path / "sock"), tmp_path / "served", 60, 60, main=2**30)
    assert process.stderr == "the main process ended before the API was healthy\n"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("file", ["config.yaml", "environment", "start.sh", "prepare.py"])
def test_a_pod_gets_the_same_file_as_a_replica_on_a_machine(rendered: Rendered, variant: str, file: str) -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    values = {**defaults, "vllm_model_dir": "/srv/models/m", **VARIANTS[variant]}
    own = role_files.RoleFiles(ROLE, values).text(f"{file}.j2").replace(role_files.MANAGED, "x")
    assert own.rstrip("\n") == rendered[variant][file].rstrip("\n")
