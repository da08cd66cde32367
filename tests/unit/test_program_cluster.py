"""The program on a Kubernetes cluster: what it declares, in which order and with which options, and the messages that stop it."""

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fleet.program.kubernetes.objects import FORCE, TEMPLATE
from fleet.stack import role_files, validate
from tests.support import cluster_stack, program_mocks
from tests.support.program_mocks import KEY, NODES, SECRET, SECRET_SIGN, Declared

TOKEN = "a token of the hub"


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """Restore the handler of SIGINT, which the program replaces."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def run(secrets: dict[str, str] | None = None, nodes: dict[str, Any] | None = None, **cluster: Any) -> Declared:
    """Return what the program declares for a right stack with these keys of its cluster; `release` is a key of the stack."""
    release = cluster.pop("release", {})
    keys = {**cluster_stack.keys(**cluster), "release": release}
    return program_mocks.run("prod", {f"glm-fleet:{name}": value for name, value in keys.items()}, secrets, nodes=nodes)


@pytest.fixture(scope="module")
def declared() -> Declared:
    return run({"vllm_api_key": KEY, "weights_token": TOKEN})


def only(declared: Declared, kind: str) -> tuple[str, dict[str, Any]]:
    """Return name and inputs of the only resource of a kind."""
    (name,) = declared.names(kind)
    return name, declared.inputs[kind, name]


def before(declared: Declared, key: tuple[str, str]) -> set[tuple[str, str]]:
    """Return all that a resource waits for, through others too."""
    found: set[tuple[str, str]] = set()
    waiting = {key}
    while waiting:
        waiting = {earlier for each in waiting for earlier in declared.after[each]} - found
        found |= waiting
    return found


def test_the_cluster_is_asked_before_anything_is_declared_there(declared: Declared) -> None:
    [(token, question, earlier)] = declared.calls
    assert (token, earlier) == (NODES, 1), "after the provider fleet alone"
    assert question["cluster"] == {"context": "prod"}
    assert (question["namespaces"], question["owner"]) == (["glm", "glm-weights"], "glm-fleet/prod")
    assert set(question["selector"]) == {"amd.com/gpu.product-name"}


def test_a_cluster_that_the_stack_cannot_use_stops_the_program_with_the_provider_s_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = "prod: take namespace glm: it belongs to the stack acme/web/prod\n  wanted: a name that is free\n  next:   another one"
    with pytest.raises(SystemExit) as caught:
        run(nodes={"error": message})
    assert (caught.value.code, message in caplog.text) == (32, True)


def test_a_model_s_variables_are_read_as_often_among_many_models_as_among_few(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, calls = validate.model_plan, []
    monkeypatch.setattr(validate, "model_plan", lambda *parts: calls.append(parts[-1]) or plan(*parts))
    counts = []
    for number in (2, 6):
        run(models={f"glm-{each}": {"replicas": 2} for each in range(number)})
        counts.append(len(calls) / number)
        calls.clear()
    assert counts[0] == counts[1]


def test_the_configuration_of_each_model_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text, names = role_files.RoleFiles.text, []
    monkeypatch.setattr(role_files.RoleFiles, "text", lambda self, name: names.append(name) or text(self, name))
    run(models={"glm": {"replicas": 2}, "air": {"replicas": 1}})
    assert names.count("config.yaml.j2") == 2


def test_each_node_that_the_cluster_names_gets_a_job_of_its_own(declared: Declared) -> None:
    jobs = [declared.inputs["Job", name] for name in declared.names("Job")]
    assert sorted(job["metadata"]["annotations"]["glm-fleet/node"] for job in jobs) == ["glm-1", "glm-2"]
    for job in jobs:
        [term] = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"]
        assert term["matchFields"][0]["values"] == [job["metadata"]["annotations"]["glm-fleet/node"]]


def test_a_claim_is_filled_by_one_job_and_an_image_by_none() -> None:
    assert len(run(weights=cluster_stack.HOMES["claim"]).names("Job")) == 1
    assert run(weights=cluster_stack.HOMES["image"]).names("Job") == []


def test_no_pod_of_a_model_starts_before_its_weights_policies_and_key(declared: Declared) -> None:
    earlier = before(declared, ("Deployment", "glm/glm"))
    kinds = ("Namespace", "ResourceQuota", "NetworkPolicy", "Job", "PersistentVolumeClaim")
    assert {("Secret", name) for name in declared.names("Secret") if "key" in name} <= earlier
    assert {(kind, name) for kind in kinds for name in declared.names(kind)} <= earlier


def test_a_pod_whose_weights_nobody_fetches_waits_for_policies_and_quota_too() -> None:
    declared = run(weights=cluster_stack.HOMES["image"])
    earlier = before(declared, ("Deployment", "glm/glm"))
    assert {(kind, name) for kind in ("ResourceQuota", "NetworkPolicy") for name in declared.names(kind)} <= earlier


def test_a_rollout_follows_its_deployment_and_knows_the_template_by_its_digest(declared: Declared) -> None:
    (_, rollout), (_, deployment) = only(declared, "Rollout"), only(declared, "Deployment")
    assert ("Deployment", "glm/glm") in declared.after["Rollout", "glm"]
    assert rollout["template"] == deployment["spec"]["template"]["metadata"]["annotations"][TEMPLATE]
    assert (rollout["replicas"], rollout["surge"], rollout["gpus"], rollout["port"]) == (2, 0, 4, 8000)
    assert deployment["metadata"]["annotations"]["pulumi.com/skipAwait"] == "true", "the rollout waits in its place"


def test_the_objects_go_to_the_stack_s_context_and_to_no_other(declared: Declared) -> None:
    assert declared.inputs["kubernetes", "kubernetes"] == {"context": "prod"}
    ours = {"fleet", "kubernetes", "Rollout", "glm-fleet-prod", "Stack"}
    assert {declared.providers[key] for key in declared.inputs if key[0] not in ours} == {"kubernetes"}


def test_key_and_token_reach_the_cluster_as_secrets_and_nothing_else_has_them(declared: Declared) -> None:
    secrets = {name: declared.inputs["Secret", name]["stringData"] for name in declared.names("Secret")}
    (key,) = [content for name, content in secrets.items() if "vllm-key" in name]
    assert key == {SECRET: SECRET_SIGN, "value": {"key.env": f"VLLM_API_KEY={KEY}\n"}}
    assert secrets["glm-weights/weights-token"] == {SECRET: SECRET_SIGN, "value": {"token": TOKEN}}
    assert declared.inputs["Rollout", "glm"]["api_key"] == {SECRET: SECRET_SIGN, "value": KEY}
    others = {key: inputs for key, inputs in declared.inputs.items() if key[0] not in ("Secret", "Rollout")}
    assert not [key for key, inputs in others.items() if KEY in repr(inputs) or TOKEN in repr(inputs)]


def test_another_key_is_another_template(declared: Declared) -> None:
    other = run({"vllm_api_key": KEY[::-1]})
    assert only(other, "Rollout")[1]["template"] != only(declared, "Rollout")[1]["template"]
    assert only(other, "Secret")[0] not in declared.names("Secret")


def test_the_stack_takes_back_its_own_fields_but_not_those_of_a_volume_without_a_namespace(declared: Declared) -> None:
    unforced = {
        kind
        for (kind, _), inputs in declared.inputs.items()
        if "metadata" in inputs and not FORCE.items() <= inputs["metadata"].get("annotations", {}).items()
    }
    assert unforced == {"PersistentVolume"}


GUARDED = {
    "namespace": {
        ("Namespace", "glm"),
        ("Namespace", "glm-weights"),
        ("PersistentVolume", "glm-weights-files"),
        ("PersistentVolume", "glm-weights-weights-files"),
        ("PersistentVolumeClaim", "glm/weights"),
        ("PersistentVolumeClaim", "glm-weights/weights"),
    },
    "glm": {("Deployment", "glm/glm"), ("Rollout", "glm")},
}


def test_namespace_weights_and_models_are_protected_until_the_stack_releases_them_by_name(declared: Declared) -> None:
    assert declared.protected == GUARDED["namespace"] | GUARDED["glm"]
    assert run(release={"glm": "moves to another cluster"}).protected == GUARDED["namespace"]
    assert run(release={"namespace": "the cluster ends"}).protected == GUARDED["glm"]


def test_a_cluster_of_the_lab_is_not_protected() -> None:
    assert run(context="glm-fleet-lab").protected == set()


def test_the_output_of_a_model_has_what_show_and_probe_need(declared: Declared) -> None:
    model = declared.outputs["models"]["glm"]
    assert model["pods"] == [{"name": "glm-1", "node": "glm-1"}]
    assert model["probes"] == {"passed": 12, "total": 12}
    assert (model["service"], model["namespace"]) == ("http://glm.glm.svc/v1", "glm")
    assert model["revision"] == "cd" * 20


def test_a_model_whose_rollout_failed_has_no_output_and_the_others_have_theirs() -> None:
    keys = cluster_stack.keys(models={"glm": {"replicas": 1}, "air": {"replicas": 1}})
    values = {f"glm-fleet:{name}": value for name, value in keys.items()}
    models = program_mocks.run("prod", values, failing=("Rollout/glm",)).outputs["models"]
    assert (models["glm"], models["air"]["probes"]["passed"]) == (None, 12)


def hard(**cluster: Any) -> dict[str, str]:
    """Return what the quota of a stack allows, whose pods have 4 GPUs each."""
    limits: dict[str, str] = cluster_stack.objects(cluster_stack.stack(**cluster))["ResourceQuota/glm/models"]["spec"][
        "hard"
    ]
    return limits


def test_the_quota_counts_the_pod_that_still_ends_and_what_is_to_spare() -> None:
    assert hard() == {"requests.amd.com/gpu": "12", "pods": "7"}
    assert hard(quota={"gpus": 8, "pods": 0}) == {"requests.amd.com/gpu": "20", "pods": "3"}
    two = {"glm": {"replicas": 2}, "air": {"replicas": 1, "surge": 2}}
    assert hard(models=two, quota={"gpus": 8}) == {"requests.amd.com/gpu": "32", "pods": "12"}


def policy(name: str, **cluster: Any) -> dict[str, Any]:
    spec: dict[str, Any] = cluster_stack.objects(cluster_stack.stack(**cluster))[f"NetworkPolicy/{name}"]["spec"]
    return spec


def test_no_pod_may_connect_to_anything_but_the_jobs_of_the_weights() -> None:
    for name in ("glm/default-deny", "glm-weights/default-deny"):
        denied = policy(name)
        assert (denied["podSelector"], denied["policyTypes"]) == ({}, ["Ingress", "Egress"])
        assert not {"ingress", "egress"} & denied.keys()
    assert "egress" not in policy("glm/models")
    jobs = policy("glm-weights/weights")
    assert jobs["podSelector"] == {"matchLabels": {"glm-fleet/job": "weights"}} and "ingress" not in jobs
    [anywhere, names] = jobs["egress"]
    assert {block["ipBlock"]["except"][0] for block in anywhere["to"] if "ipBlock" in block} == {
        "169.254.0.0/16",
        "fe80::/10",
    }
    assert {port["port"] for port in names["ports"]} == {53} and "to" not in names


def test_only_those_that_the_stack_names_may_connect_to_the_models() -> None:
    def clients(**cluster: Any) -> list[Any]:
        [rule] = policy("glm/models", **cluster)["ingress"]
        assert rule["ports"] == [{"port": 8000, "protocol": "TCP"}]
        return [next(iter(each.values()))["matchLabels"] for each in rule["from"]]

    own = {"glm-fleet/client": "true"}
    assert clients() == [own]
    named = clients(
        clients_from=["apps"],
        pod_monitor={"namespace": "monitoring"},
        models={"glm": {"replicas": 1, "host": "glm.example.com"}},
        endpoint={"gateway": {"name": "inference", "namespace": "gateways"}},
    )
    assert named == [own, *({"kubernetes.io/metadata.name": name} for name in ("apps", "gateways", "monitoring"))]


def test_a_route_lets_the_paths_of_the_gateway_on_machines_through_and_no_other() -> None:
    objects = cluster_stack.objects(
        cluster_stack.stack(
            models={"glm": {"replicas": 1, "host": "glm.example.com"}},
            endpoint={"gateway": {"name": "inference", "namespace": "gateways"}},
        )
    )
    [rule] = objects["HTTPRoute/glm/glm"]["spec"]["rules"]
    paths = {(match["method"], match["path"]["type"], match["path"]["value"]) for match in rule["matches"]}
    assert paths == {
        ("POST", "Exact", "/v1/chat/completions"),
        ("POST", "Exact", "/v1/completions"),
        ("GET", "Exact", "/v1/models"),
    }


def test_a_configmap_is_far_below_the_limit_of_the_api_server() -> None:
    for home in cluster_stack.HOMES.values():
        objects = cluster_stack.objects(cluster_stack.stack(weights=home))
        sizes = [len(json.dumps(manifest)) for key, manifest in objects.items() if key.startswith("ConfigMap/")]
        assert max(sizes) < 500_000, "the API server takes 1 MiB"


def test_a_pod_has_time_to_end_its_answers() -> None:
    objects = cluster_stack.objects(cluster_stack.stack({"vllm_stop_timeout": 100}))
    spec = objects["Deployment/glm/glm"]["spec"]["template"]["spec"]
    config = yaml.safe_load(
        objects["Deployment/glm/glm"]["spec"]["template"]["metadata"]["annotations"]["glm-fleet/config.yaml"]
    )
    leave = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] == leave + 100 > leave + config["shutdown-timeout"] == leave + 75


@pytest.mark.slow
def test_a_hundred_models_are_declared_within_seconds() -> None:
    models = {f"m{number}": {"replicas": 2, "vars": {"vllm_stop_timeout": 30 + number}} for number in range(100)}
    begin = time.process_time()
    declared = run(models=models)
    assert len(declared.names("Rollout")) == 100
    assert time.process_time() - begin < 15, "a preview of them may take 15 s in all"
