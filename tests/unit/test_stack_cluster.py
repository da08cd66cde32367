"""A stack whose machines become a cluster: a mistake is reported with its key and what is allowed; what each machine is."""

import datetime
from typing import Any

import pytest

from fleet import errors
from fleet.stack import capacity, cluster_form, role_vars, settings, validate
from tests.support import change_table
from tests.support.cluster_of_machines import NAMES, VARS, stack

FILE = "stacks/Pulumi.cluster.yaml"
ROLES = role_vars.load(change_table.ROLES)
TODAY = datetime.date(2026, 11, 30)


def mistake(raw: dict[str, Any]) -> errors.SettingsError:
    with pytest.raises(errors.SettingsError) as caught:
        settings.read(raw, FILE)
    return caught.value


@pytest.mark.parametrize(
    ("raw", "key", "seen"),
    [
        (stack([]), "cluster.control_planes", "is empty"),
        (stack(["cp-4"]), "cluster.control_planes[0]", "no machine has this name"),
        (stack(["cp-1", "cp-1", "cp-2"], "api.example.com"), "cluster.control_planes[1]", "is there twice"),
        (stack(["cp-1", "cp-2", "cp-3"]), "cluster.endpoint", "this key is missing"),
        (stack(["cp-1"], "10.0.0.1"), "cluster.endpoint", "is no name of a host"),
        (stack(["cp-1"], clients={}, gateway={"nodes": ["gpu-1"], "name": "a.example.com"}), "gateway", "has no meaning beside `cluster`"),
        (stack(["cp-1"], drill={"budgets": {"vllm": 240}}), "drill", "has no meaning beside `cluster`"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_key(raw: dict[str, Any], key: str, seen: str) -> None:
    error = mistake(raw)
    assert error.key == key and error.seen.endswith(seen)


def test_an_even_number_of_control_planes_is_refused_with_its_reason() -> None:
    error = mistake(stack(["cp-1", "cp-2"], "api.example.com"))
    assert error.key == "cluster.control_planes"
    assert error.seen == "has 2 machines: etcd stops where half of them are gone, so one of them is of no use"


@pytest.mark.parametrize("variable", ["vllm_flags", "weights_revision", "docker_packages", "gateway_port"])
def test_a_variable_of_a_role_that_no_member_runs_is_refused_by_name(variable: str) -> None:
    value: Any = {"vllm_flags": {}, "docker_packages": [], "gateway_port": 443}.get(variable, "ab" * 20)
    read = settings.read(stack(["cp-1"], vars={variable: value}), FILE)
    (error,) = validate.validate(read, ROLES, FILE, TODAY).mistakes
    assert error.key == f"vars.{variable}" and "does not run on a member" in error.seen


def test_a_control_plane_that_is_alone_is_a_warning() -> None:
    read = settings.read(stack(["cp-1"], vars=VARS), FILE)
    findings = validate.validate(read, ROLES, FILE, TODAY)
    assert findings.mistakes == []
    assert [warning.key for warning in findings.warnings] == ["cluster.control_planes"]


def test_three_control_planes_with_a_name_have_no_finding() -> None:
    read = settings.read(stack(["cp-1", "cp-2", "cp-3"], "api.example.com", vars=VARS), FILE)
    findings = validate.validate(read, ROLES, FILE, TODAY)
    assert (findings.mistakes, findings.warnings) == ([], [])


def test_the_first_control_plane_makes_the_cluster_and_the_others_join() -> None:
    form = cluster_form.OwnCluster(control_planes=["cp-1", "cp-2", "cp-3"], endpoint="api.example.com")
    assert [form.part(name) for name in NAMES] == ["first", "control-plane", "control-plane", "worker"]


def test_a_variable_of_the_role_kubernetes_without_a_cluster_is_refused() -> None:
    raw = {key: value for key, value in stack([]).items() if key != "cluster"}
    read = settings.read({**raw, "vars": {"kubernetes_port": 7443}}, FILE)
    errors_by_key = {error.key: error.seen for error in validate.validate(read, ROLES, FILE, TODAY).mistakes}
    assert errors_by_key["vars.kubernetes_port"] == "the machines become no cluster"


def test_the_plan_names_the_members_and_what_each_offers() -> None:
    read = settings.read(stack(["cp-1", "cp-2", "cp-3"], "api.example.com", vars=VARS), FILE)
    first, *members = capacity.report(read, ROLES).splitlines()
    assert first.startswith(
        "Kubernetes 1.37.2 at api.example.com, its network by docker.io/cloudnativelabs/kube-router@sha256:"
    )
    assert members == ["  cp-1, cp-2, cp-3: control plane, no GPUs", "  gpu-1: worker, 8 GPUs"]
