"""The programs that run in pods, as processes on this machine: the Job of the weights, the check before a server, the startup probe.

Each gets exactly the files that its ConfigMap has, and the command of its container. No network beyond 127.0.0.1.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet import probes
from fleet.probes import checks, startup
from fleet.program.kubernetes import pod_files
from tests.support import cluster_stack, weights_hub
from tests.support.pod import Pod
from tests.support.probe_server import Reply, Server, whole
from tests.support.weights_hub import BIG, REPOSITORY, REVISION, Hub

FOLDER = "/srv/models"  # of the weights, in a pod
STEPS = ("prepare", "fetch", "finish")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with weights_hub.serve() as hub:
        yield hub


class Weights:
    """The pods of a Job and of a replica with one folder of weights, which they fill and check."""

    def __init__(
        self, folder: Path, hub: Hub, home: str, token: str | None = None, ca: str | None = None, **variables: Any
    ) -> None:
        self.folder = folder / "models"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model = self.folder / REPOSITORY / REVISION
        stack = cluster_stack.stack(
            {
                "weights_endpoint": hub.url,
                "weights_repository": REPOSITORY,
                "weights_revision": REVISION,
                "weights_exclude": ["*.md"],
                "weights_patience": 2,
                "weights_owner": os.getuid(),
                "weights_group": os.getgid(),
                "weights_fetcher": os.getuid(),
                **variables,
            },
            weights={**cluster_stack.HOMES[home], **({"ca": ca} if ca else {})},
        )
        objects = cluster_stack.objects(stack, nodes=("glm-1",), token=token)
        places = {FOLDER: str(self.folder), "/run/fleet/token": str(folder / "token")}
        (folder / "token").write_text(token or "")
        [job] = [key for key in objects if key.startswith("Job/")]
        self.job = Pod(folder / "job", objects, job, places)
        self.replica = Pod(folder / "replica", objects, "Deployment/glm/glm", places)

    def fetch(self) -> str:
        """Run the Job's containers, each after the last; return what the first that fails says, "" when none does."""
        for container in [*self.job.spec.get("initContainers", []), *self.job.spec["containers"]]:
            ended = self.job.run(container["command"], container.get("env", []))
            assert "Traceback" not in ended.stdout + ended.stderr, ended.stderr
            if ended.returncode:
                return f"{container['name']}: {ended.stdout}{ended.stderr}"
        return ""

    def check(self) -> str:
        """Return what the first container of a replica says, "" when the weights are there."""
        ended = self.replica.run(self.replica.container("weights")["command"])
        assert "Traceback" not in ended.stderr, ended.stderr
        assert bool(ended.returncode) == bool(ended.stderr)
        return ended.stderr


@pytest.mark.parametrize("home", ["nodes", "claim"])
def test_a_job_fills_a_volume_and_a_replica_then_finds_the_weights(tmp_path: Path, hub: Hub, home: str) -> None:
    weights = Weights(tmp_path, hub, home)
    assert "wanted: the verified weights in this pod's volume" in weights.check()
    assert weights.fetch() == ""
    assert (weights.model / BIG).read_bytes() == hub.files[BIG]
    assert weights.check() == ""


def test_the_steps_of_a_node_are_three_containers_of_which_one_reads_the_hub(tmp_path: Path, hub: Hub) -> None:
    job = Weights(tmp_path, hub, "nodes", token="of the hub").job
    names = [container["name"] for container in [*job.spec["initContainers"], *job.spec["containers"]]]
    assert tuple(names) == STEPS
    with_hub = [name for name in names if any("--endpoint=" in word for word in job.container(name)["command"])]
    with_token = [name for name in names if "token" in [each["name"] for each in job.container(name)["volumeMounts"]]]
    assert with_hub == with_token == ["fetch"]


@pytest.mark.parametrize("home", ["nodes", "claim"])
def test_a_job_on_verified_weights_asks_the_hub_nothing(tmp_path: Path, hub: Hub, home: str) -> None:
    weights = Weights(tmp_path, hub, home)
    weights.fetch()
    hub.log.clear()
    assert weights.fetch() == ""
    assert hub.log == []


@pytest.mark.parametrize("home", ["nodes", "claim"])
def test_a_job_trusts_the_authority_that_the_stack_names_and_shows_that_hub_its_token(
    tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # `ca` is a path of the project
    pem = weights_hub.certificate(tmp_path)
    (tmp_path / "authority.pem").write_text(pem.read_text().partition("-----BEGIN PRIVATE KEY-----")[0])
    with weights_hub.serve(pem) as hub:
        hub.token = "of the hub"
        assert "CERTIFICATE_VERIFY_FAILED" in Weights(tmp_path / "strange", hub, home, hub.token).fetch()
        assert "401 GatedRepo" in Weights(tmp_path / "without", hub, home, ca="authority.pem").fetch()
        assert Weights(tmp_path / "with", hub, home, hub.token, "authority.pem").fetch() == ""


def test_a_file_with_a_wrong_sum_stops_the_job_and_no_replica_starts_with_it(tmp_path: Path, hub: Hub) -> None:
    hub.served[BIG] = b"x" * len(hub.files[BIG])
    weights = Weights(tmp_path, hub, "claim")
    failure = weights.fetch()
    assert BIG in failure and "sha256" in failure
    assert not weights.model.exists()
    assert weights.check() != ""


def test_a_sum_that_the_stack_wants_otherwise_stops_the_job(tmp_path: Path, hub: Hub) -> None:
    wanted = {BIG: "0" * 64, "config.json": "0" * 64, "sub/tokenizer.json": "0" * 64}
    assert "sha256" in Weights(tmp_path, hub, "nodes", weights_manifest=wanted).fetch()


def test_a_file_that_changed_after_its_verification_stops_a_replica(tmp_path: Path, hub: Hub) -> None:
    weights = Weights(tmp_path, hub, "nodes")
    weights.fetch()
    (weights.model / BIG).write_bytes(b"other weights")
    assert BIG in weights.check()
    assert weights.fetch() == "", "the Job fetches it again"
    assert weights.check() == ""


def test_a_volume_that_cannot_be_written_is_said_and_the_job_names_the_next_step(tmp_path: Path, hub: Hub) -> None:
    weights = Weights(tmp_path, hub, "nodes")
    (weights.folder / REPOSITORY.partition("/")[0]).write_text("a file in place of a folder")
    failure = weights.fetch()
    assert failure.startswith("prepare: ") and "next: look at the volume; the Job tries again" in failure


# --- the startup probe

MODEL, KEY = "glm", cluster_stack.KEY
CASES = {case.name: case for case in probes.load(pod_files.STARTUP)}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        server.model = seeing
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def seeing(body: Mapping[str, Any], key: str) -> Reply:
    """Answer rightly, and only with the key."""
    if key != f"Bearer {KEY}":
        return Reply(401, b"{}")
    case = next(case for case in CASES.values() if case.body(MODEL) == body)
    [(_, box)] = checks.truth(case)
    return whole(content=json.dumps([list(box)]))


def blind(body: Mapping[str, Any], key: str) -> Reply:
    return whole(content="There is no bottle.")


def probe(folder: Path, url: str, key: str = KEY) -> tuple[int, str]:
    """Return exit code and output of the startup probe that a replica has."""
    stack = cluster_stack.stack({"vllm_served_model_name": MODEL})
    objects = cluster_stack.objects(stack)
    file = folder / "key.env"
    file.write_text(f"VLLM_API_KEY={key}\n")
    places = {"http://127.0.0.1:8000": url, "/run/fleet/key.env": str(file)}
    replica = Pod(folder / "replica", objects, "Deployment/glm/glm", places)
    ended = replica.run(replica.container("vllm")["startupProbe"]["exec"]["command"])
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def test_a_server_that_sees_passes_its_startup_probe(tmp_path: Path, server: Server) -> None:
    assert probe(tmp_path, server.url) == (0, "sees\n")
    assert len(server.requests) == len(pod_files.STARTUP)


def test_a_server_that_sees_wrongly_does_not_and_the_line_names_case_and_answer(tmp_path: Path, server: Server) -> None:
    server.model = blind
    code, line = probe(tmp_path, server.url)
    assert code == 1 and line.count("\n") == 1
    assert line.startswith(f"{startup.WRONG}{pod_files.STARTUP[0]}: ") and "There is no bottle." in line


def test_a_server_that_knows_another_key_does_not_pass(tmp_path: Path, server: Server) -> None:
    code, line = probe(tmp_path, server.url, key="another")
    assert (code, line.startswith(startup.WRONG)) == (1, True)
    assert "401" in line and "another" not in line


def test_a_server_that_loads_its_weights_is_starting_and_is_asked_no_picture(tmp_path: Path, server: Server) -> None:
    server.health = 503
    assert probe(tmp_path, server.url) == (1, f"{startup.STARTING}/health answers 503\n")
    assert server.requests == []


def test_a_port_that_nobody_opened_is_starting(tmp_path: Path) -> None:
    with Server() as closed:
        url = closed.url
    assert probe(tmp_path, url) == (1, f"{startup.STARTING}ConnectError\n")


def test_the_probe_s_files_hold_every_module_that_it_imports(tmp_path: Path, server: Server) -> None:
    """Nothing of the repository itself, which is on this machine's path."""
    probe(tmp_path, server.url)
    replica = tmp_path / "replica"
    listed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); import startup_probe, weights_ready, fleet;"
            " print([name for name, module in sys.modules.items() if name.split('.')[0] in ('fleet', 'weights_fetcher')"
            " and not str(module.__file__).startswith(sys.argv[1])])",
            str(replica),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.strip() == "[]"
