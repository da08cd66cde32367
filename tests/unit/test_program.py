"""The program of each stack, run against Pulumi's mocks: which resources it declares, and the inputs of each."""

import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime import rpc

from fleet import program
from fleet.stack import resource_roles
from tests.support import cluster_of_machines, program_mocks
from tests.support.program_mocks import KEY, SECRET, SECRET_SIGN, SITE_VARS, STACKS, config, run, run_as_written
from tests.support.right_outputs import RIGHT


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """Restore the handler of SIGINT, which the program replaces."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


PURGES = [([], None), (["weights"], "weights"), (["weights", "driver"], "weights driver")]


@pytest.mark.parametrize(("purge", "setting"), PURGES)
def test_purge_is_a_setting_of_the_provider_and_no_input_of_a_machine(purge: list[str], setting: str | None) -> None:
    plain, declared = run("prod", config("prod")), run("prod", {**config("prod"), "glm-fleet:purge": purge})
    assert declared.inputs.pop(("fleet", "fleet")).get("purge") == setting
    plain.inputs.pop(("fleet", "fleet"))
    assert declared.inputs == plain.inputs


@pytest.mark.parametrize("stack", STACKS)
def test_every_machine_of_every_stack_has_all_resources(stack: str) -> None:
    declared = run_as_written(stack)
    machines = config(stack)["glm-fleet:nodes"]["machines"]
    serving = sorted(name for name, machine in machines.items() if machine.get("gpus") != 0)
    for kind in ("Node", "Host"):
        assert sorted(declared.names(kind)) == sorted(machines)
    for kind in ("Weights", "Serving"):
        assert sorted(declared.names(kind)) == serving
    assert sorted(declared.outputs["endpoints"]) == [f"{name}/glm-0" for name in serving]
    assert declared.outputs["api_key"] == KEY


@pytest.mark.parametrize("stack", STACKS)
def test_only_the_lab_needs_the_labs_plugin(stack: str) -> None:
    declared = run_as_written(stack)
    assert bool(declared.names("Site") or declared.names("Machine")) is (stack == "lab")


def test_with_a_registry_one_machine_builds_for_all() -> None:
    declared = run_as_written("prod")
    assert declared.names("Image") == ["prod-1"]
    assert len({declared.inputs["Serving", name]["image"] for name in declared.names("Serving")}) == 1


def test_without_a_registry_each_machine_builds_its_own() -> None:
    values = config("prod")
    del values["glm-fleet:vars"]["transformers_registry"]
    declared = run("prod", values)
    assert sorted(declared.names("Image")) == ["prod-1", "prod-2", "prod-3", "prod-4"]
    assert len({declared.inputs["Serving", name]["image"] for name in declared.names("Serving")}) == 4


def test_a_resource_gets_the_variables_and_files_of_its_own_roles_only() -> None:
    declared = run_as_written("prod")
    for kind, roles in (
        ("Host", {"host", "docker", "rocm"}),
        ("Image", {"transformers", "long_task"}),
        ("Weights", {"weights", "long_task"}),
        ("Serving", {"vllm", "long_task"}),
    ):
        inputs = declared.inputs[kind, "prod-1"]
        assert set(inputs["roles"]) == roles
        assert {name.split("_")[0] for name in inputs["vars"]} <= roles


def test_a_variable_of_one_machine_reaches_that_machine_only() -> None:
    declared = run_as_written("prod")
    flags = {name: declared.inputs["Serving", name]["vars"]["vllm_flags"] for name in declared.names("Serving")}
    assert [name for name in flags if "max-num-seqs" in flags[name]] == ["prod-4"]
    assert flags["prod-4"]["tensor-parallel-size"] == 4


def test_the_replicas_serve_what_was_built_and_what_was_fetched() -> None:
    declared = run_as_written("prod")
    serving = declared.inputs["Serving", "prod-2"]
    assert serving["vars"]["vllm_image"] == serving["image"]
    assert serving["vars"]["vllm_model_dir"] == serving["weights"]["path"] == "/srv/models/glm"
    assert serving["vars"]["vllm_model_manifest"] == "ab12"


def texts(value: Any) -> Iterator[str]:
    """Yield each text in a value."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def test_a_variable_whose_value_a_node_has_reported_is_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible evaluates the variables of a stack file, and must never evaluate what a node has reported."""
    new_resource = program_mocks.Mocks.new_resource

    def report(mocks: program_mocks.Mocks, args: Any) -> tuple[str | None, dict[Any, Any]]:
        name, properties = new_resource(mocks, args)
        kind = args.typ.rpartition(":")[2]
        outputs = {output: f"a node reported {kind}.{output}" for output in RIGHT.get(kind, {})}
        replicas = [{"name": "glm-0", "port": 8000, "model": "a node reported Serving.replicas"}]
        return name, {**properties, **outputs, **({"replicas": replicas} if kind == "Serving" else {})}

    monkeypatch.setattr(program_mocks.Mocks, "new_resource", report)
    declared = run("prod", {**config("prod"), "glm-fleet:gateway": {"nodes": ["prod-1"], "name": "glm.example.com"}})
    members = run("cluster", cluster_of_machines.config(), {})
    names = {
        name: text.rpartition(" ")[2]
        for inputs in (*declared.inputs.values(), *members.inputs.values())
        for name, value in inputs.get("vars", {}).items()
        for text in texts(value)
        if text.startswith("a node reported ")
    }
    for name, output in names.items():
        origin = f"the resource {output.partition('.')[0]}"
        assert resource_roles.SET_BY_PROGRAM.get(name) == origin, (
            f'{name} is the output {output}: add "{name}": "{origin}" to SET_BY_PROGRAM in '
            "fleet/stack/resource_roles.py, so that it reaches the playbook as data"
        )
    from_nodes = {name for name, origin in resource_roles.SET_BY_PROGRAM.items() if origin.startswith("the resource ")}
    assert names.keys() == from_nodes, "no resource gets it: remove it from SET_BY_PROGRAM"


def test_each_host_has_the_number_of_gpus_of_its_machine() -> None:
    values = config("prod")
    replicas = [{"name": "glm-0", "port": 1, "gpus": [0, 1, 2, 3]}]
    values["glm-fleet:nodes"]["machines"]["prod-2"] |= {"gpus": 7, "vars": {"vllm_replicas": replicas}}
    declared = run("prod", values)
    assert declared.inputs["Host", "prod-2"]["vars"]["rocm_gpus"] == 7
    assert declared.inputs["Host", "prod-1"]["vars"]["rocm_gpus"] == 8


@pytest.mark.parametrize("stack", STACKS)
def test_each_node_has_the_requirements_of_its_machine_and_its_owner(stack: str) -> None:
    """As at plan time: in the lab, without the variables of its site."""
    values = config(stack)
    values["glm-fleet:vars"]["vllm_network"] = "host"
    for key in ("glm-fleet:gateway", "glm-fleet:clients"):  # whose node proxies would expect sockets
        values.pop(key, None)
    declared = run(stack, values)
    for name in declared.names("Node"):
        wants = json.loads(declared.inputs["Node", name]["wants"])
        gpus = declared.inputs["Host", name]["vars"].get("rocm_gpus", 0)
        assert (wants["stack"], wants["gpus"]) == (f"glm-fleet/{stack}", gpus)
        replicas = declared.inputs["Serving", name]["vars"]["vllm_replicas"] if gpus else []
        assert wants["ports"] == {str(int(replica["port"])): f"{replica['name']}.service" for replica in replicas}
        assert bool(wants["usual"]) is (stack == "lab")


@pytest.mark.parametrize("stack", ["lab", "prod"])
def test_a_preview_that_does_not_know_the_replicas_knows_all_else_of_their_gateway(
    stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it predicts a restart of everything; the lab's variables are themselves outputs."""
    known = run_as_written(stack)
    new_resource = program_mocks.Mocks.new_resource

    def unknown_replicas(mocks: program_mocks.Mocks, args: Any) -> tuple[str | None, dict[Any, Any]]:
        identifier, outputs = new_resource(mocks, args)
        return identifier, outputs | ({"replicas": rpc.UNKNOWN} if args.typ.endswith(":Serving") else {})

    monkeypatch.setattr(program_mocks.Mocks, "new_resource", unknown_replicas)
    (name, *_) = known.names("Gateway")
    wanted = {**known.inputs["Gateway", name]["vars"], "gateway_replicas": None}
    variables = run(stack, config(stack), preview=True).inputs["Gateway", name]["vars"]
    assert {**variables, "gateway_replicas": variables.get("gateway_replicas")} == wanted


def test_replicas_on_sockets_want_no_ports() -> None:
    declared = run_as_written("prod")
    assert json.loads(declared.inputs["Node", "prod-1"]["wants"])["ports"] == {}


def test_a_value_of_the_stack_counts_more_than_one_of_the_lab_s_site() -> None:
    values = config("lab")
    declared = run("lab", values)
    assert declared.inputs["Image", "glm-1"]["vars"]["transformers_base_image"] == SITE_VARS["transformers_base_image"]
    assert not any(
        "unheard_of" in inputs.get("vars", {}) for key, inputs in declared.inputs.items() if key[0] != "Site"
    )
    own = "registry.example/vllm@sha256:" + "cd" * 32
    values["glm-fleet:vars"]["transformers_base_image"] = own
    assert run("lab", values).inputs["Image", "glm-1"]["vars"]["transformers_base_image"] == own


def test_all_resources_of_a_machine_but_its_image_are_protected() -> None:
    declared = run_as_written("prod")
    machines = ("prod-1", "prod-2", "prod-3", "prod-4")
    kinds = ("Node", "Host", "Weights", "Serving", "Gateway")
    of_machines = {(kind, name) for kind in kinds for name in machines}
    assert declared.protected == {*of_machines, ("Authority", "authority")}


def test_a_released_machine_is_not_protected() -> None:
    declared = run("prod", {**config("prod"), "glm-fleet:release": {"prod-4": "mainboard replaced"}})
    assert {name for _, name in declared.protected} == {"prod-1", "prod-2", "prod-3", "authority"}


def test_no_resource_of_the_lab_is_protected() -> None:
    assert run_as_written("lab").protected == set()


def test_secrets_stay_secret_and_reach_only_the_resources_that_need_them() -> None:
    declared = run("prod", config("prod"), {"vllm_api_key": KEY, "weights_token": "hf_abc"})
    assert declared.inputs["Weights", "prod-1"]["token"] == {SECRET: SECRET_SIGN, "value": "hf_abc"}
    assert declared.inputs["Serving", "prod-1"]["api_key"] == {SECRET: SECRET_SIGN, "value": KEY}
    texts = {key: json.dumps(inputs) for key, inputs in declared.inputs.items()}
    assert {kind for (kind, _), text in texts.items() if KEY in text} == {"Serving", "Gateway"}
    assert {kind for (kind, _), text in texts.items() if "hf_abc" in text} == {"Weights"}


def test_without_a_token_the_weights_get_none() -> None:
    assert "token" not in run_as_written("prod").inputs["Weights", "prod-1"]


def test_thirty_machines_have_thirty_servings_and_one_image() -> None:
    machine = {"address": "192.0.2.1", "host_key": f"ssh-ed25519 {base64.b64encode(b'x' * 51).decode()}"}
    machines = {f"node-{place}": {**machine, "port": 1000 + place} for place in range(30)}
    gateway = {"nodes": ["node-0"], "name": "glm.example.com"}
    own = {"glm-fleet:nodes": {"source": "ssh", "machines": machines}, "glm-fleet:gateway": gateway}
    declared = run("prod", {**config("prod"), **own})
    assert len(declared.names("Serving")) == 30
    assert declared.names("Image") == ["node-0"]


def test_a_failing_machine_stops_no_other_and_keeps_all_its_resources() -> None:
    # The Pulumi engine would delete what the program does not register.
    declared = run("prod", config("prod"), failing=("Host/prod-2", "Weights/prod-2", "Serving/prod-2"))
    for kind in ("Node", "Host", "Weights", "Serving"):
        assert sorted(declared.names(kind)) == ["prod-1", "prod-2", "prod-3", "prod-4"]
    assert declared.outputs["replicas"]["prod-2"] is None
    assert sorted(declared.outputs["endpoints"]) == [f"{node}/glm-0" for node in ("prod-1", "prod-3", "prod-4")]


@pytest.mark.parametrize("failing", [(), ("Host/prod-2", "Weights/prod-2", "Serving/prod-2")])
def test_a_preview_requests_its_forecast_after_all_resources(failing: tuple[str, ...]) -> None:
    declared = run("prod", config("prod"), failing=failing, preview=True)
    ((token, arguments, resources),) = declared.calls
    assert (token, resources) == ("fleet:index:forecast", len(declared.inputs))
    assert "::pulumi:pulumi:Stack::" in arguments["beside"]
    assert arguments["order"] == ["prod-1", "prod-2", "prod-3", "prod-4"]
    assert arguments["proxies"] is ("glm-fleet:gateway" in config("prod"))


def test_an_update_asks_the_nodes_after_all_of_them_and_reports_each_that_has_reached_its_end() -> None:
    declared = run("prod", config("prod"), failing=("Node/prod-3", "Host/prod-3", "Weights/prod-3", "Serving/prod-3"))
    (census, *passed) = declared.calls
    names = ["prod-1", "prod-2", "prod-3", "prod-4"]
    assert (census[0], census[1]["order"]) == ("fleet:index:census", names)
    connections = {name: {"name": name, "address": f"192.0.2.1{name[-1]}"} for name in names if name != "prod-3"}
    assert census[1]["nodes"] == connections
    assert {(call[0], call[1]["node"], call[1]["ok"]) for call in passed} == {
        ("fleet:index:passed", name, name != "prod-3") for name in names
    }


@pytest.mark.parametrize("builder", ["prod-1", "prod-3"])
def test_the_canary_is_the_builder_of_the_image(builder: str) -> None:
    values = config("prod")
    values["glm-fleet:nodes"]["builder"] = builder
    assert run("prod", values).calls[0][1]["order"][0] == builder


def test_a_stack_with_one_machine_has_no_turns() -> None:
    values = config("prod")
    del values["glm-fleet:gateway"]
    values["glm-fleet:nodes"]["machines"] = {"prod-1": values["glm-fleet:nodes"]["machines"]["prod-1"]}
    declared = run("prod", values)
    assert declared.calls[0][1]["order"] == [], "the census names no node"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"glm-fleet:vars": {"vlm_flags": {}}}, "vars.vlm_flags: no role knows this variable"),
        ({"glm-fleet:vars": {"transformers_base_image": "a"}}, "an image without digest"),
        ({"glm-fleet:paralel": "4"}, "did you mean parallel?"),
        ({"glm-fleet:probes": {"cases": ["botle"]}}, "no such probe"),
        ({"glm-fleet:probes": {"extra": "own"}}, "own: there is no such folder"),
        ({"glm-fleet:probes": {"extra": "../own"}}, 'probes.extra: "../own": has the wrong form'),
    ],
    ids=["variable", "image without digest", "misspelled key", "unknown probe", "missing folder", "folder elsewhere"],
)
def test_a_wrong_stack_declares_nothing(change: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        run("prod", {**config("prod"), **change})
    assert caught.value.code == 32
    assert message in caplog.text


def test_a_user_s_own_cases_are_inputs_by_name_and_by_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "probes" / "own"
    folder.mkdir(parents=True)
    (folder / "greets.yaml").write_text("{about: It greets., question: Hello!, checks: [{words: [hello]}]}")
    monkeypatch.chdir(tmp_path)
    own = {"cases": ["greets", "tool-call"], "extra": "probes/own"}
    declared = run("prod", {**config("prod"), "glm-fleet:probes": own})
    assert declared.names("Serving")
    for name in declared.names("Serving"):
        digest = program.probes_digest("probes/own")
        assert declared.inputs["Serving", name]["probes"] == {**own, "min_iou": 0.5, "digest": digest}


def test_a_stack_without_cases_of_its_own_has_no_further_input() -> None:
    declared = run_as_written("prod")
    for name in declared.names("Serving"):
        assert set(declared.inputs["Serving", name]["probes"]) == {"cases", "min_iou", "digest"}


def test_a_stack_without_an_api_key_reports_how_to_make_one(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run("prod", config("prod"), secrets={})
    assert "pulumi config set --secret vllm_api_key -s prod" in caplog.text


def test_an_api_key_in_clear_is_refused_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run("prod", {**config("prod"), "glm-fleet:vllm_api_key": KEY}, secrets={})
    assert "is in clear" in caplog.text and KEY not in caplog.text


def test_a_secret_among_plain_values_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    nodes = {"glm-fleet:nodes": config("prod")["glm-fleet:nodes"]}
    with pytest.raises(SystemExit):
        run("prod", nodes, {"vllm_api_key": KEY, "vars": json.dumps({"a": "b"})})
    assert "holds a secret among plain values" in caplog.text


def test_a_draining_machine_keeps_its_resources_without_a_replica_and_an_absent_one_has_none() -> None:
    values = config("prod")
    values["glm-fleet:nodes"]["machines"]["prod-2"]["state"] = "drain"
    values["glm-fleet:nodes"]["machines"]["prod-3"]["state"] = "absent"
    declared = run("prod", values)
    assert sorted(declared.names("Serving")) == ["prod-1", "prod-2", "prod-4"]
    assert declared.inputs["Serving", "prod-2"]["vars"]["vllm_replicas"] == []
    assert len(declared.inputs["Serving", "prod-1"]["vars"]["vllm_replicas"]) == 2


def test_the_replicas_output_has_the_place_of_each_machine() -> None:
    values = config("prod")
    values["glm-fleet:nodes"]["defaults"]["zone"] = "a"
    values["glm-fleet:nodes"]["machines"]["prod-2"]["internal_address"] = "10.0.0.12"
    outputs = run("prod", values).outputs["replicas"]
    assert outputs["prod-1"]["place"] == {"zone": "a"}
    assert outputs["prod-2"]["place"] == {"zone": "a", "internal_address": "10.0.0.12"}
