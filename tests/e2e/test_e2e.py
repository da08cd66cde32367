"""The whole road, with the real Pulumi engine, Ansible and vLLM server, on two bare lab nodes.

The tests run in the order of the file: each leaves the stack converged for the next.
"""

import re
import socket
from pathlib import Path

import httpx
import pytest

from tests.support.e2e import NODES, Road, boots, forecast, processes
from tests.support.environment import expect_success

REPAIR = "repair what drifted, nothing restarts"
CHANGES = re.compile(r"(?m)^ +[+~-]+ +\d+ (?:to )?(?:create|update|delete|replace)d?.*$")  # in Pulumi's summary


def test_up_takes_bare_nodes_to_probed_endpoints(road: Road, first_up: str) -> None:
    outputs = road.outputs()
    assert sorted(outputs["replicas"]) == list(NODES)
    assert outputs["endpoints"] == {f"{node}/glm-0": "unix:/run/fleet/glm-0/sock" for node in NODES}
    for replica in outputs["replicas"].values():
        assert replica["probes"]["passed"] == replica["probes"]["total"] >= 12
        assert re.fullmatch(r"registry.lab.internal:5000/glm/serving@sha256:[0-9a-f]{64}", replica["image"])
        assert re.fullmatch(r"[0-9a-f]{40}", replica["commit"])
        assert re.fullmatch(r"[0-9a-f]{40}", replica["revision"])
        assert {"host", "docker", "rocm", "transformers", "weights", "vllm"} == set(replica["seconds"])


def test_every_download_uses_the_mirrors(road: Road, first_up: str) -> None:
    """A node's packets do not leave its own network, the site's do; and only the host of every URL in the stack is a mirror's."""
    find = "sed -n 's,^deb http://archive.lab.internal/https*/\\([^/]*\\)/.*,\\1,p' /etc/apt/sources.list | head -1"
    address = socket.gethostbyname(road.on("glm-1", find))
    connect = f"import socket; socket.create_connection(({address!r}, 80), 5)"
    runs = {
        name: road.run("docker", "exec", f"{road.lab}-{name}", "python3", "-c", connect) for name in ("site", *NODES)
    }
    assert {name for name, run in runs.items() if run.returncode == 0} == {"site"}, runs
    resources = [item for item in road.resources() if item["urn"].endswith("::glm-1")]
    variables = {item["type"].rpartition(":")[2]: item.get("inputs", {}).get("vars", {}) for item in resources}
    assert variables["Host"]["rocm_repository_url"] == "http://packages.lab.internal/rocm/apt/{{ rocm_version }}"
    assert variables["Image"]["transformers_repository"] == "http://git.lab.internal/huggingface/transformers.git"
    assert variables["Weights"]["weights_endpoint"] == "http://hub.lab.internal"


def test_an_unknown_name_fails_at_once_on_a_node_without_a_way_out(road: Road, first_up: str) -> None:
    """Docker's own resolver waits for 20 s, and apt asks for such a name whenever it starts."""
    assert road.on("glm-1", "timeout 5 getent hosts nobody.example; echo $?") == "2"


def test_one_node_builds_the_image_and_the_other_pulls_it(road: Road, first_up: str) -> None:
    images = [item for item in road.resources() if item["type"] == "fleet:index:Image"]
    assert [item["outputs"]["node"]["name"] for item in images] == ["glm-1"]
    references = {replica["image"] for replica in road.outputs()["replicas"].values()}
    assert {road.on(node, "docker inspect -f '{{.Config.Image}}' glm-0") for node in NODES} == references


def test_the_kernel_command_line_has_the_arguments_of_the_stack(road: Road, first_up: str) -> None:
    for node in NODES:
        assert "iommu=pt" in road.on(node, "cat /proc/cmdline").split()


def test_a_second_up_changes_nothing_and_runs_no_ansible(road: Road, first_up: str) -> None:
    logs = road.home / ".pulumi" / "logs"
    before = sorted(logs.iterdir())
    assert CHANGES.findall(expect_success(road.up("--expect-no-changes"))) == []
    assert sorted(logs.iterdir()) == before


def test_a_refresh_of_an_untouched_stack_shows_nothing(road: Road, first_up: str) -> None:
    road.expect_no_changes()


def test_the_table_shows_every_replica_the_endpoint_and_lines_to_paste(road: Road, first_up: str) -> None:
    table = expect_success(road.run("fleet", "show", "-s", "lab"))
    rows = [line.split()[:2] for line in table.splitlines()]
    assert ["glm-1", "glm-0"] in rows and ["glm-2", "glm-0"] in rows
    assert ["endpoint", "https://glm.lab.internal/v1"] in rows and ["clients", "lab"] in rows
    assert "openai.OpenAI()" in table


def test_the_lines_to_paste_work(road: Road, first_up: str) -> None:
    assert road.paste().startswith("<|begin_of_box|>[[")


def test_a_tunnel_reaches_a_replica_past_the_gateway(road: Road, first_up: str) -> None:
    with road.forwarded("glm-1/glm-0") as url:
        assert httpx.get(f"{url}/health").status_code == 200


def test_fleet_probe_runs_the_probes_again(road: Road, first_up: str) -> None:
    junit, page = road.home / "probes.xml", road.home / "probes.html"
    expect_success(road.run("fleet", "probe", "-s", "lab", "--junit", str(junit), "--html", str(page)))
    assert 'failures="0"' in junit.read_text()
    assert "<svg" in page.read_text()


def replica_starts(road: Road, node: str) -> str:
    return road.on(node, "systemctl show -P ActiveEnterTimestampMonotonic glm-0")


def test_one_flag_runs_only_the_serving_role_restarts_only_the_replicas_and_loses_no_request(
    road: Road, first_up: str, tmp_path: Path
) -> None:
    before, logs = boots(road), set((road.home / ".pulumi" / "logs").iterdir())
    length = road.another_length()
    road.set('glm-fleet:vars.vllm_flags["max-model-len"]', length)
    preview = expect_success(road.preview())
    restart = rf"glm-1, glm-2: restart glm-0, about N s each, 1 at a time: vllm_flags.max-model-len \d+ -> {length}"
    assert any(re.fullmatch(restart, line) for line in forecast(preview)), preview
    with road.clients(tmp_path) as clients:
        clients.wait_for(4, 120)
        expect_success(road.up())
        clients.wait_for(4, 120)
        sums = clients.end()
    assert sums.failures == [] and sums.requests > 50, sums
    new = sorted(path.name for path in set((road.home / ".pulumi" / "logs").iterdir()) - logs)
    assert [re.sub(r"-\d{8}-\d{6}\.log$", "", name) for name in new] == [f"lab-serving-{node}" for node in NODES]
    assert boots(road) == before
    for node in NODES:
        assert f"max-model-len: {length}" in road.on(node, "cat /etc/fleet/vllm/config.yaml")


@pytest.mark.exhaustive  # test_e2e_drift.py has every kind of drift; here is what the repair of some does not touch
def test_an_update_repairs_drift_and_restarts_nothing_else(road: Road, first_up: str) -> None:
    road.on("glm-1", "chmod 0600 /etc/security/limits.d/90-fleet.conf")
    road.on("glm-1", "systemctl stop glm-0.service")
    road.on("glm-2", "dpkg --remove --force-depends amd-smi-lib")
    preview = expect_success(road.preview("--refresh"))
    for begins, words in (
        ("glm-1: restart glm-0, about N s: ", "unit glm-0.service (state inactive, wanted state active)"),
        (f"glm-1: {REPAIR}: ", "file /etc/security/limits.d/90-fleet.conf (mode 0600, wanted mode 0644)"),
        (f"glm-2: {REPAIR}: ", "package amd-smi-lib (absent, wanted present)"),
    ):
        lines = [line for line in forecast(preview) if line.startswith(begins) and words in line]
        assert lines, f"{begins}{words} is not in:\n{preview}"
    before = boots(road), replica_starts(road, "glm-2")
    expect_success(road.up("--refresh"))
    assert (boots(road), replica_starts(road, "glm-2")) == before, "the preview says that nothing restarts"
    assert road.on("glm-1", "systemctl is-active glm-0.service") == "active"
    assert road.on("glm-2", "dpkg-query -W -f '${db:Status-Status}' amd-smi-lib") == "installed"
    road.expect_no_changes()


FLIP = """
file=$(find /srv/models -name model.safetensors -type f) time=$(stat -c @%.9Y $file)
byte=$(od -An -tu1 -j 4096 -N 1 $file)
printf "\\\\x$(printf %x $((byte ^ 1)))" | dd of=$file bs=1 seek=4096 conv=notrunc status=none
touch -d $time $file
"""


def test_verify_confirms_every_byte_on_every_machine(road: Road, first_up: str) -> None:
    output = expect_success(road.run("fleet", "verify", "-s", "lab"))
    assert [line.split()[0] for line in output.splitlines()[1:]] == list(NODES)


@pytest.mark.exhaustive  # tests/machine/test_verify.py has each wrong file, tests/roles/test_weights.py the new fetch
def test_verify_finds_a_flipped_byte_that_no_refresh_sees_and_its_commands_repair_it(road: Road, first_up: str) -> None:
    road.on("glm-2", FLIP)
    road.expect_no_changes()
    verify = road.run("fleet", "verify", "-s", "lab", "glm-2")
    assert verify.returncode == 1, verify.stdout
    wrong = r"^    model.safetensors: sha256 [0-9a-f]{64}\n      recorded: sha256 [0-9a-f]{64}$"
    assert re.search(wrong, verify.stdout, re.M)
    before = {node: replica_starts(road, node) for node in NODES}
    for command in re.findall(r"`pulumi ((?:preview|up) .*?)`", verify.stdout):
        verb, *rest = command.split()
        more = ["--yes", "--skip-preview"] if verb == "up" else []
        output = expect_success(road.run("pulumi", verb, *rest, *more, timeout=900))
        assert "wrong file model.safetensors (written to)" in output or verb == "up", output
    after = {node: replica_starts(road, node) for node in NODES}
    assert [node for node in NODES if after[node] != before[node]] == ["glm-2"]
    expect_success(road.run("fleet", "verify", "-s", "lab"))
    road.expect_no_changes()


@pytest.mark.exhaustive  # in `make test` tests/roles/test_host.py restarts the daemon
def test_a_replica_serves_again_after_a_restart_of_the_docker_daemon(road: Road, first_up: str) -> None:
    """After a reboot as well: in test_e2e_drift.py, which needs a reboot to lose a kernel argument."""
    road.on("glm-1", "systemctl restart docker")
    road.wait_for_replicas("glm-1")
    expect_success(road.run("fleet", "probe", "-s", "lab"))


def test_no_run_leaves_an_ansible_or_ssh_process(road: Road, first_up: str) -> None:
    assert [line for line in processes() if "ansible" in line and str(road.home) in line] == []
