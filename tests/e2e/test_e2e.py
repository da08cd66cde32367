"""The whole road, with the real engine, the real Ansible and the real vLLM, on two bare lab nodes.

The tests run in the order of the file: each leaves the stack converged for the next. Where one fails, the next ones say what they saw.
"""

import re
import socket

import pytest

from tests.support.e2e import NODES, Road, boots, foretold, processes

MEND = "repair what drifted, nothing restarts"


def changes(text: str) -> list[str]:
    """The lines of Pulumi's summary that name a change."""
    return re.findall(
        r"^ +[+~-]+ +\d+ (?:to )?(?:create|created|update|updated|delete|deleted|replace|replaced).*$", text, re.M
    )


def test_up_takes_bare_nodes_to_probed_endpoints(road: Road, first_up: str) -> None:
    outputs = road.outputs()
    assert sorted(outputs["replicas"]) == list(NODES)
    assert outputs["endpoints"] == {f"{node}/glm-0": "unix:/run/fleet/glm-0/sock" for node in NODES}
    for seen in outputs["replicas"].values():
        assert seen["probes"]["passed"] == seen["probes"]["total"] >= 12
        assert re.fullmatch(r"registry.lab.internal:5000/glm/serving@sha256:[0-9a-f]{64}", seen["image"])
        assert re.fullmatch(r"[0-9a-f]{40}", seen["commit"])
        assert re.fullmatch(r"[0-9a-f]{40}", seen["revision"])
        assert {"host", "docker", "rocm", "transformers", "weights", "vllm"} == set(seen["seconds"])


def test_all_of_it_came_through_the_mirrors(road: Road, first_up: str) -> None:
    """Nothing that a node sends leaves its own network, where the site's does; and of every URL in the stack the host alone is a mirror's."""
    origin = road.on(
        "glm-1",
        "sed -n 's,^deb http://archive.lab.internal/https*/\\([^/]*\\)/.*,\\1,p' /etc/apt/sources.list | head -1",
    )
    address = socket.gethostbyname(origin)
    asks = f"import socket; socket.create_connection(({address!r}, 80), 5)"
    answers = {who: road.run("docker", "exec", f"{road.lab}-{who}", "python3", "-c", asks) for who in ("site", *NODES)}
    assert {who for who, answer in answers.items() if answer.returncode == 0} == {"site"}, answers
    told = {item["type"].rpartition(":")[2]: item.get("inputs", {}).get("vars", {}) for item in road.resources()}
    assert told["Host"]["rocm_repository_url"] == "http://packages.lab.internal/rocm/apt/{{ rocm_version }}"
    assert told["Image"]["transformers_repository"] == "http://git.lab.internal/huggingface/transformers.git"
    assert told["Weights"]["weights_endpoint"] == "http://hub.lab.internal"


def test_a_node_without_a_way_out_is_told_at_once_that_a_name_is_unknown(road: Road, first_up: str) -> None:
    """Docker's resolver lets it wait for 20 s, and apt asks for such a name whenever it starts."""
    assert road.on("glm-1", "timeout 5 getent hosts nobody.example; echo $?") == "2"


def test_the_image_is_built_once_and_pulled_by_the_other_node(road: Road, first_up: str) -> None:
    built = [item for item in road.resources() if item["type"] == "fleet:index:Image"]
    assert [item["outputs"]["node"]["name"] for item in built] == ["glm-1"]
    images = {seen["image"] for seen in road.outputs()["replicas"].values()}
    assert {road.on(node, "docker inspect -f '{{.Config.Image}}' glm-0") for node in NODES} == images


def test_the_kernel_command_line_has_the_arguments_of_the_stack(road: Road, first_up: str) -> None:
    for node in NODES:
        assert "iommu=pt" in road.on(node, "cat /proc/cmdline").split()


def test_a_second_up_changes_nothing_and_runs_no_ansible(road: Road, first_up: str) -> None:
    logs = road.home / ".pulumi" / "logs"
    before = sorted(logs.iterdir())
    again = road.up("--expect-no-changes")
    assert again.returncode == 0, again.stdout
    assert changes(again.stdout) == []
    assert sorted(logs.iterdir()) == before


def test_a_refresh_of_an_untouched_road_shows_nothing(road: Road, first_up: str) -> None:
    seen = road.preview("--refresh", "--expect-no-changes")
    assert seen.returncode == 0, seen.stdout


def test_the_table_shows_every_replica_and_two_lines_to_paste(road: Road, first_up: str) -> None:
    shown = road.run("fleet", "show", "-s", "lab")
    assert shown.returncode == 0, shown.stdout
    rows = [line.split()[:2] for line in shown.stdout.splitlines()]
    assert ["glm-1", "glm-0"] in rows and ["glm-2", "glm-0"] in rows
    assert "fleet forward -s lab" in shown.stdout
    assert "curl" in shown.stdout


def test_the_lines_to_paste_work(road: Road, first_up: str) -> None:
    assert road.paste().startswith("<|begin_of_box|>[[")


def test_probes_can_be_asked_again(road: Road, first_up: str) -> None:
    junit, page = road.home / "probes.xml", road.home / "probes.html"
    asked = road.run("fleet", "probe", "-s", "lab", "--junit", str(junit), "--html", str(page))
    assert asked.returncode == 0, asked.stdout
    assert 'failures="0"' in junit.read_text()
    assert "<svg" in page.read_text()


def replica_starts(road: Road, node: str) -> str:
    return road.on(node, "systemctl show -P ActiveEnterTimestampMonotonic glm-0")


def test_one_flag_runs_only_the_serving_role_and_restarts_only_the_replicas(road: Road, first_up: str) -> None:
    before, logs = boots(road), set((road.home / ".pulumi" / "logs").iterdir())
    length = road.another_length()
    road.set('glm-fleet:vars.vllm_flags["max-model-len"]', length)
    seen = road.preview()
    assert seen.returncode == 0, seen.stdout
    told = rf"glm-1, glm-2: restart glm-0, about N s each: vllm_flags.max-model-len \d+ -> {length}"
    assert any(re.fullmatch(told, line) for line in foretold(seen.stdout)), seen.stdout
    done = road.up()
    assert done.returncode == 0, done.stdout
    new = sorted(path.name for path in set((road.home / ".pulumi" / "logs").iterdir()) - logs)
    assert [re.sub(r"-\d{8}-\d{6}\.log$", "", name) for name in new] == [f"lab-serving-{node}" for node in NODES]
    assert boots(road) == before
    for node in NODES:
        assert f"max-model-len: {length}" in road.on(node, "cat /etc/fleet/vllm/config.yaml")


@pytest.mark.exhaustive  # every kind of it is in test_e2e_drift.py; here is what mending some of it does not touch
def test_what_is_changed_by_hand_is_seen_and_mended(road: Road, first_up: str) -> None:
    road.on("glm-1", "chmod 0600 /etc/security/limits.d/90-fleet.conf")
    road.on("glm-1", "systemctl stop glm-0.service")
    road.on("glm-2", "dpkg --remove --force-depends amd-smi-lib")
    seen = road.preview("--refresh")
    assert seen.returncode == 0, seen.stdout
    for begins, words in (
        ("glm-1: restart glm-0, about N s: ", "unit glm-0.service (state inactive, wanted state active)"),
        (f"glm-1: {MEND}: ", "file /etc/security/limits.d/90-fleet.conf (mode 0600, wanted mode 0644)"),
        (f"glm-2: {MEND}: ", "package amd-smi-lib (absent, wanted present)"),
    ):
        told = [line for line in foretold(seen.stdout) if line.startswith(begins) and words in line]
        assert told, f"{begins}{words} is not in:\n{seen.stdout}"
    before = boots(road), replica_starts(road, "glm-2")
    mended = road.up("--refresh")
    assert mended.returncode == 0, mended.stdout
    assert (boots(road), replica_starts(road, "glm-2")) == before, "what was to restart nothing restarted something"
    assert road.on("glm-1", "systemctl is-active glm-0.service") == "active"
    assert road.on("glm-2", "dpkg-query -W -f '${db:Status-Status}' amd-smi-lib") == "installed"
    again = road.preview("--refresh", "--expect-no-changes")
    assert again.returncode == 0, again.stdout


FLIP = """
file=$(find /srv/models -name model.safetensors -type f) time=$(stat -c @%.9Y $file)
byte=$(od -An -tu1 -j 4096 -N 1 $file)
printf "\\\\x$(printf %x $((byte ^ 1)))" | dd of=$file bs=1 seek=4096 conv=notrunc status=none
touch -d $time $file
"""


def test_verify_finds_every_byte_right_on_every_machine(road: Road, first_up: str) -> None:
    right = road.run("fleet", "verify", "-s", "lab")
    assert right.returncode == 0, right.stdout
    assert [line.split()[0] for line in right.stdout.splitlines()[1:]] == list(NODES)


@pytest.mark.exhaustive  # what is wrong is found and named in tests/machine/test_verify.py, and fetched again in tests/roles/test_weights.py
def test_a_flipped_byte_that_no_refresh_sees_is_found_by_verify_and_mended_as_it_says(
    road: Road, first_up: str
) -> None:
    road.on("glm-2", FLIP)
    unseen = road.preview("--refresh", "--expect-no-changes")
    assert unseen.returncode == 0, unseen.stdout
    wrong = road.run("fleet", "verify", "-s", "lab", "glm-2")
    assert wrong.returncode == 1, wrong.stdout
    assert re.search(
        r"^    model.safetensors: sha256 [0-9a-f]{64}\n      recorded: sha256 [0-9a-f]{64}$", wrong.stdout, re.M
    )
    before = {node: replica_starts(road, node) for node in NODES}
    for told in re.findall(r"`pulumi ((?:preview|up) .*?)`", wrong.stdout):
        verb, *rest = told.split()
        done = road.run("pulumi", verb, *rest, *(["--yes", "--skip-preview"] if verb == "up" else []), timeout=900)
        assert done.returncode == 0, done.stdout
        assert "wrong file model.safetensors (written to)" in done.stdout or verb == "up", done.stdout
    after = {node: replica_starts(road, node) for node in NODES}
    assert [node for node in NODES if after[node] != before[node]] == ["glm-2"]
    again = road.run("fleet", "verify", "-s", "lab")
    assert again.returncode == 0, again.stdout
    clean = road.preview("--refresh", "--expect-no-changes")
    assert clean.returncode == 0, clean.stdout


@pytest.mark.exhaustive  # `make test` restarts it by a role and by a reboot (test_e2e_changes.py)
def test_a_restarted_engine_serves_again(road: Road, first_up: str) -> None:
    """And so does a rebooted node: in test_e2e_drift.py, where a reboot is needed to lose a kernel argument."""
    road.on("glm-1", "systemctl restart docker")
    road.serves_again("glm-1")
    asked = road.run("fleet", "probe", "-s", "lab")
    assert asked.returncode == 0, asked.stdout


def test_no_ansible_or_ssh_process_is_left_by_any_run(road: Road, first_up: str) -> None:
    assert [line for line in processes() if "ansible" in line and str(road.home) in line] == []
