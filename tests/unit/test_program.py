"""The program of each stack, run against Pulumi's mocks: which resources it declares, and what each of them is told."""

import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import program
from fleet.stack import resource_roles
from tests.support import program_mocks
from tests.support.program_mocks import KEY, SECRET, SECRET_SIGN, SITE_VARS, STACKS, config, run, run_as_written
from tests.support.right_outputs import RIGHT


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """The program takes SIGINT for itself; give it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("purge", "given"), [([], None), (["weights"], "weights"), (["weights", "driver"], "weights driver")]
)
def test_what_a_delete_is_to_purge_is_a_setting_of_the_provider_and_no_input_of_a_machine(
    purge: list[str], given: str | None
) -> None:
    plain, declared = run("prod", config("prod")), run("prod", {**config("prod"), "glm-fleet:purge": purge})
    assert declared.inputs.pop(("fleet", "fleet")).get("purge") == given
    plain.inputs.pop(("fleet", "fleet"))
    assert declared.inputs == plain.inputs


@pytest.mark.parametrize("stack", STACKS)
def test_every_machine_of_every_stack_gets_the_whole_road(stack: str) -> None:
    declared = run_as_written(stack)
    machines = list(config(stack)["glm-fleet:nodes"]["machines"])
    for kind in ("Node", "Host", "Weights", "Serving"):
        assert sorted(declared.names(kind)) == sorted(machines)
    assert sorted(declared.outputs["endpoints"]) == [f"{name}/glm-0" for name in sorted(machines)]
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


def test_what_stands_with_one_machine_reaches_that_machine_only() -> None:
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


def test_a_variable_whose_value_a_node_has_reported_is_known_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible evaluates the variables of a stack file, and must never evaluate what a node has reported."""
    new_resource = program_mocks.Mocks.new_resource

    def reported(mocks: program_mocks.Mocks, args: Any) -> tuple[str | None, dict[Any, Any]]:
        name, properties = new_resource(mocks, args)
        kind = args.typ.rpartition(":")[2]
        outputs = {output: f"a node reported {kind}.{output}" for output in RIGHT.get(kind, {})}
        return name, {**properties, **outputs, **({"replicas": []} if kind == "Serving" else {})}

    monkeypatch.setattr(program_mocks.Mocks, "new_resource", reported)
    declared = run("prod", config("prod"))
    names = {
        name: text.rpartition(" ")[2]
        for inputs in declared.inputs.values()
        for name, value in inputs.get("vars", {}).items()
        for text in texts(value)
        if text.startswith("a node reported ")
    }
    for name, output in names.items():
        assert name in resource_roles.SET_BY_PROGRAM, (
            f'{name} is the output {output}: add "{name}": "{output.partition(".")[0]}" to SET_BY_PROGRAM in '
            "fleet/stack/resource_roles.py, so that it reaches the playbook as data"
        )
    assert names.keys() == resource_roles.SET_BY_PROGRAM.keys(), "no resource gets it: remove it from SET_BY_PROGRAM"


def test_each_machine_is_told_how_many_gpus_it_must_have() -> None:
    values = config("prod")
    values["glm-fleet:nodes"]["machines"]["prod-2"]["gpus"] = 7
    values["glm-fleet:nodes"]["machines"]["prod-2"]["vars"] = {
        "vllm_replicas": [{"name": "glm-0", "port": 1, "gpus": [0, 1, 2, 3]}]
    }
    declared = run("prod", values)
    assert declared.inputs["Host", "prod-2"]["vars"]["rocm_gpus"] == 7
    assert declared.inputs["Host", "prod-1"]["vars"]["rocm_gpus"] == 8


@pytest.mark.parametrize("stack", STACKS)
def test_each_node_is_told_what_its_machine_must_be_and_whose_it_will_be(stack: str) -> None:
    """What is known at plan time: in the lab, without what its site will tell."""
    values = config(stack)
    values["glm-fleet:vars"]["vllm_network"] = "host"
    declared = run(stack, values)
    told = {name: json.loads(declared.inputs["Node", name]["wants"]) for name in declared.names("Node")}
    for name, one in told.items():
        assert (one["stack"], one["gpus"]) == (f"glm-fleet/{stack}", declared.inputs["Host", name]["vars"]["rocm_gpus"])
        replicas = declared.inputs["Serving", name]["vars"]["vllm_replicas"]
        assert one["ports"] == {str(int(replica["port"])): f"{replica['name']}.service" for replica in replicas}
    assert {bool(one["usual"]) for one in told.values()} == {stack == "lab"}


def test_replicas_on_sockets_want_no_ports() -> None:
    declared = run_as_written("prod")
    assert json.loads(declared.inputs["Node", "prod-1"]["wants"])["ports"] == {}


def test_what_the_site_tells_lies_under_what_the_stack_says() -> None:
    values = config("lab")
    declared = run("lab", values)
    assert declared.inputs["Image", "glm-1"]["vars"]["transformers_base_image"] == SITE_VARS["transformers_base_image"]
    assert not any(
        "unheard_of" in inputs.get("vars", {}) for key, inputs in declared.inputs.items() if key[0] != "Site"
    )
    own = "registry.example/vllm@sha256:" + "cd" * 32
    values["glm-fleet:vars"]["transformers_base_image"] = own
    assert run("lab", values).inputs["Image", "glm-1"]["vars"]["transformers_base_image"] == own


def test_a_machine_and_what_stands_on_it_are_protected_but_not_who_builds() -> None:
    declared = run_as_written("prod")
    machines = ("prod-1", "prod-2", "prod-3", "prod-4")
    kinds = ("Node", "Host", "Weights", "Serving")
    assert declared.protected == {(kind, name) for kind in kinds for name in machines}


def test_a_released_machine_is_not_protected() -> None:
    declared = run("prod", {**config("prod"), "glm-fleet:release": {"prod-4": "mainboard replaced"}})
    assert {name for _, name in declared.protected} == {"prod-1", "prod-2", "prod-3"}


def test_nothing_of_the_lab_is_protected() -> None:
    assert run_as_written("lab").protected == set()


def test_secrets_stay_secret_and_reach_only_who_needs_them() -> None:
    declared = run("prod", config("prod"), {"vllm_api_key": KEY, "weights_token": "hf_abc"})
    assert declared.inputs["Weights", "prod-1"]["token"] == {SECRET: SECRET_SIGN, "value": "hf_abc"}
    assert declared.inputs["Serving", "prod-1"]["api_key"] == {SECRET: SECRET_SIGN, "value": KEY}
    told = {key: json.dumps(inputs) for key, inputs in declared.inputs.items()}
    assert {kind for (kind, _), text in told.items() if KEY in text} == {"Serving"}
    assert {kind for (kind, _), text in told.items() if "hf_abc" in text} == {"Weights"}


def test_without_a_token_the_weights_get_none() -> None:
    assert "token" not in run_as_written("prod").inputs["Weights", "prod-1"]


def test_thirty_machines_are_thirty_roads() -> None:
    values = config("prod")
    machine = {
        "address": "192.0.2.1",
        "host_key": f"ssh-ed25519 {base64.b64encode(b'x' * 51).decode()}",
    }
    values["glm-fleet:nodes"] = {
        "source": "ssh",
        "machines": {f"node-{place}": {**machine, "port": 1000 + place} for place in range(30)},
    }
    declared = run("prod", values)
    assert len(declared.names("Serving")) == 30
    assert declared.names("Image") == ["node-0"]


def test_a_failing_machine_stops_no_other_and_loses_nothing_of_its_own() -> None:
    # What the program does not register, the engine would take for removed, and delete.
    declared = run("prod", config("prod"), failing=("Host/prod-2", "Weights/prod-2", "Serving/prod-2"))
    for kind in ("Node", "Host", "Weights", "Serving"):
        assert sorted(declared.names(kind)) == ["prod-1", "prod-2", "prod-3", "prod-4"]
    assert declared.outputs["replicas"]["prod-2"] is None
    assert sorted(declared.outputs["endpoints"]) == [f"{node}/glm-0" for node in ("prod-1", "prod-3", "prod-4")]


@pytest.mark.parametrize("failing", [(), ("Host/prod-2", "Weights/prod-2", "Serving/prod-2")])
def test_a_preview_asks_what_it_foretells_once_everything_is_declared(failing: tuple[str, ...]) -> None:
    declared = run("prod", config("prod"), failing=failing, preview=True)
    ((token, arguments, before),) = declared.calls
    assert (token, before) == ("fleet:index:forecast", len(declared.inputs))
    assert "::pulumi:pulumi:Stack::" in arguments["beside"]


def test_an_update_calls_nothing() -> None:
    assert run_as_written("prod").calls == []


@pytest.mark.parametrize(
    ("claim", "change", "seen"),
    [
        (
            "a variable that no role knows",
            {"glm-fleet:vars": {"vlm_flags": {}}},
            "vars.vlm_flags: no role knows this variable",
        ),
        (
            "an image without digest",
            {"glm-fleet:vars": {"transformers_base_image": "a"}},
            "an image without digest",
        ),
        ("a misspelled key", {"glm-fleet:paralel": "4"}, "did you mean parallel?"),
        ("a probe that does not exist", {"glm-fleet:probes": {"cases": ["botle"]}}, "no such probe"),
        ("a folder that is not there", {"glm-fleet:probes": {"extra": "own"}}, "own: there is no such folder"),
        ("a folder elsewhere", {"glm-fleet:probes": {"extra": "../own"}}, 'probes.extra: "../own": has the wrong form'),
    ],
)
def test_a_bad_stack_declares_nothing(
    claim: str, change: dict[str, Any], seen: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("prod", {**config("prod"), **change})
    assert ended.value.code == 32
    assert seen in caplog.text


def test_cases_of_one_s_own_gate_by_name_and_by_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "probes" / "own"
    folder.mkdir(parents=True)
    (folder / "greets.yaml").write_text("{about: It greets., question: Hello!, checks: [{words: [hello]}]}")
    monkeypatch.chdir(tmp_path)
    asked = {"cases": ["greets", "tool-call"], "extra": "probes/own"}
    declared = run("prod", {**config("prod"), "glm-fleet:probes": asked})
    seen = [inputs["probes"] for (kind, _), inputs in declared.inputs.items() if kind == "Serving"]
    assert seen
    for probes in seen:
        assert probes == {**asked, "min_iou": 0.5, "digest": program.probes_digest("probes/own")}


def test_a_stack_without_cases_of_its_own_has_the_inputs_it_had() -> None:
    seen = [inputs["probes"] for (kind, _), inputs in run_as_written("prod").inputs.items() if kind == "Serving"]
    assert all(set(probes) == {"cases", "min_iou", "digest"} for probes in seen)


def test_a_stack_without_an_api_key_is_told_how_to_make_one(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run("prod", config("prod"), secrets={})
    assert "pulumi config set --secret vllm_api_key -s prod" in caplog.text


def test_an_api_key_in_clear_is_refused_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run("prod", {**config("prod"), "glm-fleet:vllm_api_key": KEY}, secrets={})
    told = caplog.text
    assert "is in clear" in told
    assert KEY not in told


def test_a_secret_among_plain_values_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run(
            "prod",
            {"glm-fleet:nodes": config("prod")["glm-fleet:nodes"]},
            {"vllm_api_key": KEY, "vars": json.dumps({"a": "b"})},
        )
    assert "holds a secret among plain values" in caplog.text


def test_a_draining_machine_stays_set_up_and_serves_nothing_and_an_absent_one_is_not_there() -> None:
    values = config("prod")
    values["glm-fleet:nodes"]["machines"]["prod-2"]["state"] = "drain"
    values["glm-fleet:nodes"]["machines"]["prod-3"]["state"] = "absent"
    declared = run("prod", values)
    assert sorted(declared.names("Serving")) == ["prod-1", "prod-2", "prod-4"]
    assert declared.inputs["Serving", "prod-2"]["vars"]["vllm_replicas"] == []
    assert len(declared.inputs["Serving", "prod-1"]["vars"]["vllm_replicas"]) == 2


def test_where_a_machine_stands_is_told_with_what_it_serves() -> None:
    values = config("prod")
    values["glm-fleet:nodes"]["defaults"]["zone"] = "a"
    values["glm-fleet:nodes"]["machines"]["prod-2"]["internal_address"] = "10.0.0.12"
    outputs = run("prod", values).outputs["replicas"]
    assert (outputs["prod-1"]["place"], outputs["prod-2"]["place"]) == (
        {"zone": "a"},
        {"zone": "a", "internal_address": "10.0.0.12"},
    )
