"""What a preview shows: outputs as far as they are known, and in words what an update does. It opens no connection."""

from pathlib import Path

import pytest

from fleet.drift import Difference
from tests.support.plugin import UNKNOWN, Engine, Plugin, Props, urn
from tests.support.serving_inputs import INPUTS, NODE, OUTPUTS, changed
from tests.support.ssh_server import Server

GOLDEN = Path(__file__).parent / "golden"
DRIFT = [
    Difference("unit", "glm-0.service", "state", "active", "failed").to_json(),
    Difference("file", "/etc/x", "present", True, False).to_json(),
]
DRIFT_OF_A_HOST = [
    Difference("kernel started for", "/etc/default/grub.d/90-fleet.cfg", "arguments", ["iommu=pt"], []).to_json(),
    Difference("unit", "docker.service", "state", "active", "inactive").to_json(),
    Difference("unit", "docker.service", "at_boot", "enabled", "disabled").to_json(),
]
DRIFT_OF_RELEASE_0_1 = [
    {"what": "unit docker.service", "expected": "state active", "seen": "state inactive"},
    {"what": "sysctl vm.swappiness", "expected": "value 10", "seen": "value 60"},
]
COMPUTED = {
    "Host": {"gpus", "driver", "engine"},
    "Image": {"image", "commit", "version", "recipe"},
    "Weights": {"path", "revision", "bytes", "files", "manifest"},
    "Serving": {"replicas", "verdict"},
}
HOST = {
    "node": NODE,
    "roles": {"host": "1  templates/grub.cfg.j2", "docker": "", "rocm": ""},
    "vars": {"host_kernel_arguments": ["iommu=pt"], "docker_daemon_options": {"live-restore": True}},
}


def engine_of(version: str) -> Props:
    """Return a host whose Docker daemon has this version."""
    return {**HOST, "managed": {"declared": {}, "expected": {"package docker.io": {"version": version}}}}


REPLICAS = INPUTS["vars"]["vllm_replicas"]
LISTED, DEFAULT = INPUTS["roles"]["vllm"], "defaults/main.yml: "
ROLES_OWN = {**INPUTS, "vars": {"vllm_flags": {"seed": 0}}}
WEIGHTS = {"node": NODE, "roles": {"weights": "", "long_task": ""}, "vars": {}}
IMAGE = {"node": NODE, "roles": {"transformers": "", "long_task": ""}, "vars": {}}
BUSY = {**HOST["vars"], "host_kernel_arguments": ["amd_iommu=on"], "docker_daemon_options": {"live-restore": False}}
OPTION = {**HOST, "vars": {**HOST["vars"], "docker_daemon_options": {"live-restore": False}}}
OPTIONS = {**HOST, "vars": {**HOST["vars"], "docker_daemon_options": {"live-restore": False, "mtu": 9000}}}
NO_OPTION = {**HOST, "vars": {**HOST["vars"], "docker_daemon_options": {}}}
MANY = ["iommu=pt", "transparent_hugepage=madvise", "pci=realloc=off,bfsort"]
MORE = {
    **INPUTS,
    "vars": {**INPUTS["vars"], "vllm_replicas": [*REPLICAS, {"name": "glm-2"}], "vllm_flags": {"seed": 1}},
}


def on_ports(replicas: list[Props]) -> Props:
    """Return a Serving whose replicas listen on their ports."""
    return {**INPUTS, "vars": {**INPUTS["vars"], "vllm_network": "host", "vllm_replicas": replicas}}


PORTS = on_ports(REPLICAS)
ANEW = {**INPUTS, "vars": UNKNOWN, "image": UNKNOWN, "weights": {"path": "/srv/models/a", "revision": "0"}}


@pytest.mark.parametrize("kind", COMPUTED)
def test_before_a_create_its_outputs_are_unknown_and_no_connection_opens(
    plugin: Plugin, engine: Engine, server: Server, inputs: Props, kind: str
) -> None:
    outputs = plugin.create(kind, inputs, preview=True)
    unknown = {key for key, value in outputs.items() if value == UNKNOWN}
    assert unknown == COMPUTED[kind] | {"managed", "seconds", "took", "log"}
    assert outputs["drift"] == []
    assert {key: outputs[key] for key in inputs} == inputs
    assert (server.connections, engine.lines) == (0, [])


def test_a_node_s_connection_is_known_before_its_create(plugin: Plugin, server: Server, connection: Props) -> None:
    outputs = plugin.create("Node", {**connection, "gpus": 8}, preview=True)
    assert outputs["connection"] == connection
    assert outputs["facts"] == UNKNOWN
    assert server.connections == 0


@pytest.mark.parametrize("name", ["node", "vars"])
def test_a_preview_of_a_create_accepts_unknown_inputs(plugin: Plugin, name: str) -> None:
    outputs = plugin.create("Serving", {**INPUTS, name: UNKNOWN}, preview=True)
    assert outputs[name] == UNKNOWN


@pytest.mark.parametrize(
    ("claim", "kind", "olds", "news"),
    [
        ("a-flag", "Serving", INPUTS, changed("vars", "vllm_flags", "max-model-len", to=32768)),
        ("a-template", "Serving", INPUTS, changed("roles", "vllm", to="1  tasks/main.yml\n3  templates/unit.j2")),
        ("a-task-file", "Serving", INPUTS, changed("roles", "vllm", to="3  tasks/main.yml\n2  templates/unit.j2")),
        ("a-key", "Serving", INPUTS, changed("api_key", to="9876543210")),
        ("a-replica-s-port", "Serving", PORTS, on_ports([REPLICAS[0], {"name": "glm-1", "port": 9001}])),
        ("a-port-that-means-nothing", "Serving", INPUTS, changed("vars", "vllm_replicas", 1, "port", to=9001)),
        ("a-replica-more", "Serving", INPUTS, changed("vars", "vllm_replicas", to=[*REPLICAS, {"name": "glm-2"}])),
        ("replicas-of-every-kind", "Serving", PORTS, on_ports([{"name": "glm-0", "port": 1}, {"name": "glm-2"}])),
        ("a-replica-more-and-a-flag", "Serving", INPUTS, MORE),
        ("the-role-s-own-replicas", "Serving", ROLES_OWN, {**ROLES_OWN, "vars": {"vllm_flags": {"seed": 1}}}),
        ("a-replica-less", "Serving", PORTS, on_ports(REPLICAS[:1])),
        ("a-token", "Weights", {**WEIGHTS, "token": "hf_old"}, {**WEIGHTS, "token": "hf_new"}),
        ("other-probes", "Serving", {**INPUTS, "probes": {"digest": "1"}}, {**INPUTS, "probes": {"digest": "2"}}),
        ("a-docker-daemon-that-restarts", "Serving", {**INPUTS, "engine": "1"}, {**INPUTS, "engine": UNKNOWN}),
        ("kernel-and-engine", "Host", HOST, {**HOST, "vars": BUSY}),
        ("an-option-that-the-engine-takes-over", "Host", engine_of("5:27.5.1-1"), OPTION),
        ("an-option-that-an-old-engine-restarts-for", "Host", engine_of("20.10.24+dfsg1-1"), OPTION),
        ("an-option-of-an-engine-that-nobody-has-read", "Host", HOST, OPTION),
        ("two-options-one-restart", "Host", engine_of("27.5.1-0ubuntu3"), OPTIONS),
        ("an-option-taken-out", "Host", engine_of("27.5.1-0ubuntu3"), NO_OPTION),
        ("an-argument-taken-out", "Host", HOST, {**HOST, "vars": {**HOST["vars"], "host_kernel_arguments": []}}),
        ("a-long-list", "Host", HOST, {**HOST, "vars": {**HOST["vars"], "host_kernel_arguments": MANY}}),
        ("text-of-several-lines", "Serving", INPUTS, changed("vars", "vllm_environment", to={"A": "b\nc"})),
        ("text-that-was-empty", "Serving", changed("vars", "vllm_media_dir", to=""), changed("vars", "vllm_media_dir", to="/srv/media")),
        ("an-argument-of-intel", "Host", HOST, {**HOST, "vars": {**HOST["vars"], "host_kernel_arguments_intel": ["a", "b"]}}),
        ("a-default-of-what-nobody-sets", "Serving", INPUTS, changed("roles", "vllm", to=f"{LISTED}\n1  {DEFAULT}vllm_shm_size")),
        ("a-default-of-what-is-set", "Serving", INPUTS, changed("roles", "vllm", to=f"{LISTED}\n1  {DEFAULT}vllm_flags")),
        ("set-to-the-default", "Serving", INPUTS, changed("vars", "vllm_pids_limit", to=8192)),
        ("the-default-no-longer", "Serving", INPUTS, changed("vars", "vllm_pids_limit", to=4096)),
        ("another-image", "Serving", INPUTS, ANEW),
        ("another-image-and-other-weights", "Serving", INPUTS, {**ANEW, "weights": {"path": UNKNOWN, "revision": UNKNOWN}}),
        ("drift", "Serving", {**INPUTS, "drift": DRIFT}, INPUTS),
        ("drift-of-a-host", "Host", {**HOST, "drift": DRIFT_OF_A_HOST}, HOST),
        ("drift-that-release-0.1-recorded", "Host", {**HOST, "drift": DRIFT_OF_RELEASE_0_1}, HOST),
        ("drift-and-a-flag", "Serving", {**INPUTS, "drift": DRIFT[:1]}, changed("vars", "vllm_flags", "seed", to=1)),
        ("an-image-still-to-be-built", "Serving", INPUTS, changed("vars", "vllm_image", to=UNKNOWN)),
        ("variables-still-unknown", "Serving", INPUTS, changed("vars", to=UNKNOWN)),
        ("a-flag-taken-back", "Serving", {**changed("vars", "vllm_flags", "seed", to=1), "before": INPUTS}, INPUTS),
        ("a-node-still-to-be-made", "Serving", INPUTS, changed("node", to=UNKNOWN)),
        ("a-failed-run", "Serving", INPUTS, INPUTS),
        ("a-failed-build", "Image", IMAGE, IMAGE),
        ("another-address-of-what-runs-there", "Serving", INPUTS, changed("node", "address", to="192.0.2.4")),
        ("another-address", "Node", NODE, {**NODE, "address": "192.0.2.4"}),
    ],
)  # fmt: skip
def test_a_preview_words_an_update_as_the_status_of_its_resource(
    plugin: Plugin, engine: Engine, claim: str, kind: str, olds: Props, news: Props
) -> None:
    """The strongest effect is the last line, which stays. After a failed update the inputs `before` it differ from the state's."""
    state = {**OUTPUTS, **olds}
    old_inputs = state.pop("before", {key: olds[key] for key in olds if key != "drift"})
    plugin.update(kind, old_inputs, state, news, preview=True, name="prod-3")
    lines = [line.message for line in engine.lines]
    assert "".join(f"{line}\n" for line in lines) == (GOLDEN / f"{claim}.txt").read_text()
    assert {(line.urn, line.ephemeral) for line in engine.lines} == {(urn(kind, "prod-3"), True)}


def test_an_update_that_changes_no_role_keeps_the_results_known(plugin: Plugin) -> None:
    olds = {**INPUTS, **OUTPUTS, "drift": DRIFT}
    outputs = plugin.update("Serving", INPUTS, olds, changed("api_key", to="9876543210"), preview=True)
    assert {key: outputs[key] for key in OUTPUTS} == OUTPUTS
    assert outputs["api_key"] == "9876543210"


BUILT = {**IMAGE, "vars": {"transformers_commit": "a", "transformers_pull_timeout": 60}}
COMMIT, USER = ({**IMAGE["roles"], "transformers": f"1  {DEFAULT}transformers_{name}"} for name in ("commit", "user"))
MADE = {"image": "registry.example/a@sha256:00", "commit": "a", "version": "5.0"}


@pytest.mark.parametrize(
    ("claim", "before", "tried", "news", "image"),
    [
        ("how long a pull may take decides nothing", BUILT, BUILT, {"transformers_pull_timeout": 90}, MADE["image"]),
        ("the commit decides the image", BUILT, BUILT, {"transformers_commit": "b"}, UNKNOWN),
        ("a default of what is set decides nothing", BUILT, {**BUILT, "roles": COMMIT}, {}, MADE["image"]),
        ("a default of what nobody sets does", BUILT, {**BUILT, "roles": USER}, {}, UNKNOWN),
        ("a build of it that failed is still to come", BUILT, {**BUILT, "vars": {"transformers_commit": "b"}}, {"transformers_commit": "b"}, UNKNOWN),
    ],
)  # fmt: skip
def test_results_are_unknown_where_a_deciding_input_changes(
    plugin: Plugin, claim: str, before: Props, tried: Props, news: Props, image: str
) -> None:
    inputs = {**tried, "vars": {**tried["vars"], **news}}
    outputs = plugin.update("Image", before, {**tried, **OUTPUTS, **MADE}, inputs, preview=True)
    assert outputs["image"] == image, claim


@pytest.mark.parametrize(
    ("news", "unknown"),
    [
        (changed("vars", "vllm_served_model_name", to="glm"), {"replicas", "verdict"}),
        (changed("roles", "vllm", to=f"{LISTED}\n1  vars/main.yml: _vllm_result"), {"replicas", "verdict"}),
        (changed("vars", "vllm_flags", "max-model-len", to=32768), set()),
    ],
)
def test_an_update_that_decides_a_role_s_results_makes_these_unknown_and_nothing_else(
    plugin: Plugin, news: Props, unknown: set[str]
) -> None:
    """A flag does not: otherwise each preview of one would announce a reload of every proxy."""
    outputs = plugin.update("Serving", INPUTS, {**INPUTS, **OUTPUTS}, news, preview=True)
    assert {key for key in OUTPUTS if outputs[key] == UNKNOWN} == unknown
    assert outputs["managed"] == OUTPUTS["managed"]


SYSCTL = {**HOST["vars"], "host_sysctls": {"vm.swappiness": "1"}}


@pytest.mark.parametrize(
    ("news", "drift", "starts"), [(BUSY, [], True), (SYSCTL, [], False), ({}, DRIFT_OF_A_HOST, True)]
)
def test_the_start_of_the_docker_daemon_stays_known_where_nothing_restarts_it(
    plugin: Plugin, news: Props, drift: list[Props], starts: bool
) -> None:
    """Serving has it as an input: its replicas stop with the Docker daemon, and need new probes."""
    olds = {**HOST, **OUTPUTS, "gpus": 8, "driver": "6", "engine": "1", "drift": drift}
    outputs = plugin.update("Host", HOST, olds, {**HOST, "vars": news or HOST["vars"]}, preview=True)
    assert outputs["engine"] == (UNKNOWN if starts else "1")


@pytest.mark.parametrize(
    ("thing", "attribute", "fetches"),
    [
        ("files of /srv/models/a/manifest.json", "wrong", True),
        ("file /srv/models/a/manifest.json", "sha256", True),
        ("file /srv/models/a/manifest.json", "present", True),
        ("file /srv/models/a/manifest.json", "mode", False),
        ("file /usr/local/lib/fleet/fetch-weights", "sha256", False),
    ],
)
def test_only_weights_that_a_run_may_fetch_again_have_an_unknown_manifest(
    plugin: Plugin, thing: str, attribute: str, fetches: bool
) -> None:
    results = {"path": "/srv/models/a", "manifest": "m"}
    difference = Difference.of(thing, attribute, "one", "other")
    olds = {**WEIGHTS, **OUTPUTS, **results, "drift": [difference.to_json()]}
    outputs = plugin.update("Weights", WEIGHTS, olds, WEIGHTS, preview=True)
    assert outputs["path"] == "/srv/models/a"
    assert (outputs["manifest"] == UNKNOWN) is fetches
