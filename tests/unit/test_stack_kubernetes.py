"""A mistake in a stack on a Kubernetes cluster is reported with its key, what is allowed and why: golden/stack_kubernetes/."""

import datetime
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import testing

from fleet import errors
from fleet.cli import main
from fleet.stack import capacity, kubernetes_form, kubernetes_vars, settings, validate
from fleet.stack.resource_roles import SET_BY_PROGRAM
from tests.support import cluster_stack
from tests.support.builders import REMOVE, changed
from tests.support.cluster_stack import FILE, HOMES, ROLES, ROOT

GOLDEN = Path(__file__).parent / "golden" / "stack_kubernetes"
TODAY = datetime.date(2026, 11, 26)
HOST = "glm.example.com"
GATEWAY = {"name": "inference", "namespace": "gateways"}
INGRESS = {"class_name": "nginx", "namespace": "ingress", "tls_secret": "glm-tls"}

# claim → the change to the right stack: the path of a key, and its new value
MISTAKES: dict[str, tuple[list[str], Any]] = {
    "nodes-beside-a-cluster": (["nodes"], {"source": "lab", "machines": {"glm-1": {"system": "debian-12"}}}),
    "a-gateway-of-machines": (["gateway"], {"nodes": ["prod-1"], "name": HOST}),
    "a-purge": (["purge"], ["weights"]),
    "budgets-of-a-drill": (["drill"], {"budgets": {"vllm": 240}}),
    "a-release-of-no-model": (["release"], {"glmm": "the model is retired"}),
    "no-context": (["kubernetes", "context"], REMOVE),
    "a-context-with-a-blank": (["kubernetes", "context"], "my cluster"),
    "a-kubeconfig-itself": (["kubernetes", "kubeconfig"], "users: [{token: of-the-cluster}]"),
    "no-image": (["kubernetes", "image"], REMOVE),
    "an-image-by-tag": (["kubernetes", "image"], "registry.example/glm/serving:latest"),
    "no-render-group": (["kubernetes", "render_group"], REMOVE),
    "no-weights": (["kubernetes", "weights"], REMOVE),
    "an-unknown-home": (["kubernetes", "weights"], {"home": "node", "path": "/var/lib/models"}),
    "weights-without-a-path": (["kubernetes", "weights"], {"home": "nodes"}),
    "weights-with-a-relative-path": (["kubernetes", "weights", "path"], "models/../etc"),
    "a-claim-without-a-class": (["kubernetes", "weights"], {"home": "claim", "size": "500Gi"}),
    "a-claim-without-a-size": (["kubernetes", "weights"], {"home": "claim", "storage_class": "shared"}),
    "a-size-in-words": (["kubernetes", "weights"], {**HOMES["claim"], "size": "500 GB"}),
    "a-key-of-another-home": (["kubernetes", "weights"], {**HOMES["nodes"], "size": "500Gi"}),
    "no-models": (["kubernetes", "models"], {}),
    "a-model-without-replicas": (["kubernetes", "models", "glm"], {"surge": 1}),
    "a-model-with-no-replica": (["kubernetes", "models", "glm", "replicas"], 0),
    "a-model-with-an-underscore": (["kubernetes", "models", "glm_air"], {"replicas": 1}),
    "a-model-with-a-long-name": (["kubernetes", "models", "glm-" * 10 + "x"], {"replicas": 1}),
    "a-model-named-namespace": (["kubernetes", "models", "namespace"], {"replicas": 1}),
    "a-misspelled-key": (["kubernetes", "rendergroup"], 992),
    "a-misspelled-key-of-a-model": (["kubernetes", "models", "glm", "replica"], 2),
    "a-label-with-a-blank": (["kubernetes", "node_labels"], {"gpu": "MI300X OAM"}),
    "a-namespace-that-leaves-no-room-for-the-jobs": (["kubernetes", "namespace"], "n" * 56),
    "an-endpoint-without-a-host": (["kubernetes", "endpoint"], {"gateway": GATEWAY}),
    "a-host-without-an-endpoint": (["kubernetes", "models", "glm", "host"], HOST),
    "a-host-that-is-a-url": (["kubernetes", "models", "glm", "host"], f"https://{HOST}"),
}


def stack() -> dict[str, Any]:
    """Return a right stack on a cluster."""
    return cluster_stack.keys()


@pytest.mark.parametrize("claim", MISTAKES)
def test_a_mistake_is_reported(claim: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(changed(stack(), *MISTAKES[claim]), FILE)
    assert f"{caught.value}\n" == (GOLDEN / f"{claim}.txt").read_text()


# claim → keys of the cluster
ENDPOINTS: dict[str, dict[str, Any]] = {
    "an-endpoint-with-both-ways": {"endpoint": {"gateway": GATEWAY, "ingress": INGRESS}},
    "an-endpoint-with-no-way": {"endpoint": {}},
    "two-models-with-one-host": {
        "endpoint": {"gateway": GATEWAY},
        "models": {"glm": {"replicas": 1, "host": HOST}, "air": {"replicas": 1, "host": HOST}},
    },
}


@pytest.mark.parametrize("claim", ENDPOINTS)
def test_an_endpoint_that_cannot_work_is_reported(claim: str) -> None:
    models = {"glm": {"replicas": 1, "host": HOST}}
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(cluster_stack.keys(**{"models": models, **ENDPOINTS[claim]}), FILE)
    assert f"{caught.value}\n" == (GOLDEN / f"{claim}.txt").read_text()


def findings(model: dict[str, Any] | None = None, home: str = "nodes", **variables: Any) -> validate.Findings:
    """Return the findings about a stack whose model `glm` has these keys, and whose `vars` have these too."""
    raw = cluster_stack.keys(weights=HOMES[home], models={"glm": {"replicas": 2, **(model or {})}})
    raw["vars"] |= variables
    return validate.validate(settings.read(raw, FILE), ROLES, FILE, TODAY)


@pytest.mark.parametrize("home", HOMES)
def test_a_right_stack_has_no_mistake(home: str) -> None:
    assert findings(home=home).mistakes == []


# claim → the model's keys, the stack's variables
VARIABLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "what-restricted-refuses": ({}, {"vllm_ptrace": True}),
    "the-network-of-the-host": ({"vars": {"vllm_host_network": True}}, {}),
    "a-variable-of-the-host": ({}, {"host_reboot_timeout": 900}),
    "a-variable-of-the-driver": ({"vars": {"rocm_version": "7.2.3"}}, {}),
    "the-folder-of-the-weights": ({}, {"weights_dir": "/data"}),
    "an-image-that-is-built": ({}, {"transformers_commit": "12" * 20}),
    "an-expression": ({"vars": {"vllm_served_model_name": "{{ inventory_hostname }}"}}, {}),
    "a-misspelled-variable-of-a-model": ({"vars": {"vllm_flgs": {}}}, {}),
    "more-gpus-than-a-node": ({"vars": {"vllm_flags": {"tensor-parallel-size": 4, "data-parallel-size": 4}}}, {}),
    "a-server-that-is-root": ({}, {"vllm_user": 0}),
    "a-chat-template-of-the-node": ({}, {"vllm_chat_template": "/srv/templates/glm.jinja"}),
    "media-hosts-that-no-pod-reaches": (
        {"vars": {"vllm_flags": {"tensor-parallel-size": 4, "allowed-media-domains": ["img.example"]}}},
        {},
    ),
    "a-surge-without-gpus-to-spare": ({"surge": 1}, {}),
}


@pytest.mark.parametrize("claim", VARIABLES)
def test_a_variable_that_means_nothing_or_does_not_fit_is_refused_with_its_reason(claim: str) -> None:
    model, variables = VARIABLES[claim]
    [mistake] = findings(model, **variables).mistakes
    assert f"{mistake}\n" == (GOLDEN / f"{claim}.txt").read_text()


def test_weights_in_an_image_are_not_fetched_so_their_revision_means_nothing() -> None:
    [mistake] = findings(home="image", weights_revision="ab" * 20).mistakes
    assert mistake.key == "vars.weights_revision" and "nothing fetches them" in str(mistake)


def test_a_kubeconfig_in_place_of_its_path_is_not_repeated() -> None:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(changed(stack(), *MISTAKES["a-kubeconfig-itself"]), FILE)
    assert "of-the-cluster" not in str(caught.value)


def test_every_golden_text_belongs_to_a_claim() -> None:
    claims = {*MISTAKES, *ENDPOINTS, *VARIABLES}
    assert {path.stem for path in GOLDEN.glob("*.txt")} == claims, "delete the text, or write its claim"


# --- the edges of the rules


def gpus(**flags: int) -> list[str]:
    """Return the keys of the mistakes about a replica with these flags, of its GPUs alone."""
    named = {name.replace("_", "-"): value for name, value in flags.items()}
    found = findings({"vars": {"vllm_flags": named}}).mistakes
    return [mistake.key for mistake in found if "GPUs" in mistake.seen]


def test_a_replica_may_have_all_the_gpus_of_a_node_and_not_one_more() -> None:
    assert gpus(tensor_parallel_size=8) == gpus(tensor_parallel_size=4, data_parallel_size=2) == []
    assert gpus(tensor_parallel_size=4, data_parallel_size=4) == [
        "kubernetes.models.glm.vars.vllm_flags.tensor-parallel-size"
    ]


@pytest.mark.parametrize("name", ["vllm_user", "vllm_group"])
def test_the_server_may_have_any_number_but_root_s(name: str) -> None:
    assert [mistake.key for mistake in findings(**{name: 0}).mistakes] == [f"vars.{name}"]
    assert findings(**{name: 1}).mistakes == []


def test_a_chat_template_may_be_a_file_of_the_weights() -> None:
    assert findings(vllm_chat_template="chat_template.jinja").mistakes == []


def test_a_surge_needs_as_many_gpus_in_the_quota() -> None:
    raw = cluster_stack.keys(models={"glm": {"replicas": 2, "surge": 2}}, quota={"gpus": 8})
    assert validate.validate(settings.read(raw, FILE), ROLES, FILE, TODAY).mistakes == []
    raw["kubernetes"]["quota"]["gpus"] = 7
    [mistake] = validate.validate(settings.read(raw, FILE), ROLES, FILE, TODAY).mistakes
    assert mistake.key == "kubernetes.models.glm.surge" and "at least 8" in mistake.allowed


def test_a_model_that_nobody_serves_while_it_changes_is_a_warning() -> None:
    for model, warned in (({"replicas": 1}, 1), ({"replicas": 2}, 0), ({"replicas": 1, "surge": 1}, 0)):
        raw = cluster_stack.keys(models={"glm": model}, quota={"gpus": 4})
        report = validate.validate(settings.read(raw, FILE), ROLES, FILE, TODAY)
        assert report.mistakes == []
        assert [warning.key for warning in report.warnings if "one pod" in warning.seen] == warned * [
            "kubernetes.models.glm"
        ]


PLAN = {
    "models": {
        "glm": {"replicas": 3},
        "flash": {
            "replicas": 1,
            "surge": 1,
            "vars": {"weights_repository": "zai-org/GLM-4.6V-Flash", "vllm_flags": {"tensor-parallel-size": 1}},
        },
        "own": {"replicas": 1, "vars": {"weights_repository": "acme/own"}},
    },
    "quota": {"gpus": 1},
}


def test_a_plan_draws_each_model_and_says_what_serves_during_a_change() -> None:
    text = capacity.report(settings.read(cluster_stack.keys(**PLAN), FILE), ROLES)
    assert text + "\n" == (GOLDEN.parent / "stack" / "kubernetes.txt").read_text()


def test_fleet_plan_reads_the_file_of_a_stack_on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").touch()
    keys = cluster_stack.keys(**PLAN) | {"vllm_api_key": {"secure": "v1:"}}
    config = {f"glm-fleet:{name}": value for name, value in keys.items()}
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text(yaml.safe_dump({"config": config}, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    result = testing.CliRunner().invoke(main.main, ["plan", "-s", "prod"])
    assert result.output.startswith((GOLDEN.parent / "stack" / "kubernetes.txt").read_text())
    assert result.exit_code == 0 and "warning: stacks/Pulumi.prod.yaml: kubernetes.models.own: one pod" in result.output


def test_the_stack_of_the_manual_has_no_mistake() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    block = re.search(r"(?:^    .*\n)+", page[page.index("    config:\n") :], re.M)
    assert block
    text = block[0].replace("sha256:…", "sha256:" + "ab" * 32).replace("revision: …", f"revision: {'cd' * 20}")
    raw = {key.removeprefix("glm-fleet:"): value for key, value in yaml.safe_load(text)["config"].items()}
    report = validate.validate(settings.read(raw, FILE), ROLES, FILE, TODAY)
    assert report.mistakes == []


def test_every_variable_either_has_a_meaning_or_a_reason_why_not() -> None:
    cluster = settings.read(stack(), FILE).kubernetes
    assert cluster
    refused = {name for name in ROLES.defaults if kubernetes_vars.refusal(name, cluster)}
    assert {name.partition("_")[0] for name in ROLES.defaults.keys() - refused} == {"vllm", "weights", "transformers"}
    assert set(kubernetes_vars.REFUSED) <= ROLES.defaults.keys(), "a variable of REFUSED that no role has"


OTHERS: dict[type, Any] = {bool: lambda on: not on, int: lambda number: number + 7}
OTHERS |= {str: lambda _: "other", list: lambda items: [*items, "other"], dict: lambda items: {**items, "other": "x"}}
SIZES = {"vllm_shm_size": "17g", "vllm_memory": "99g"}
CLUSTER = cluster_stack.stack()
OBJECTS = cluster_stack.objects(CLUSTER)
MEANT = sorted(
    name
    for name in ROLES.defaults.keys() - {*SET_BY_PROGRAM, kubernetes_vars.VERSION}
    if not kubernetes_vars.refusal(name, CLUSTER.cluster)
)


@pytest.mark.parametrize("name", MEANT)
def test_a_variable_that_is_not_refused_changes_an_object(name: str) -> None:
    default = ROLES.defaults[name]
    other = SIZES.get(name) or OTHERS[type(default)](default)
    same = cluster_stack.objects(cluster_stack.stack({name: other})) == OBJECTS
    assert not same, "give it a meaning in fleet/program/kubernetes/, or a reason in fleet/stack/kubernetes_vars.py"


def test_a_model_has_the_stack_s_variables_with_its_own_over_them() -> None:
    raw = cluster_stack.keys(models={"glm": {"replicas": 1, "vars": {"vllm_stop_timeout": 7}}, "air": {"replicas": 1}})
    raw["vars"]["vllm_stop_timeout"] = 90
    read = settings.read(raw, FILE)
    values = {name: validate.model_variables(read, ROLES, name)["vllm_stop_timeout"] for name in ("glm", "air")}
    assert values == {"glm": 7, "air": 90}


def test_the_names_of_the_objects_fit_in_a_label() -> None:
    assert kubernetes_form.LONGEST_MODEL + len("-0123456789-01234") <= 63  # ReplicaSet and pod add theirs
