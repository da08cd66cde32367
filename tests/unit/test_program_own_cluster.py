"""The program of a stack whose machines become a cluster, against Pulumi's mocks: what is declared, after what, with which inputs."""

import pytest

from tests.support import cluster_of_machines
from tests.support.cluster_of_machines import NAMES
from tests.support.program_mocks import Declared, run


@pytest.fixture(scope="module")
def declared() -> Declared:
    """What the program declares, without a single secret in the stack."""
    return run("cluster", cluster_of_machines.config(), {})


def test_each_machine_is_node_host_and_member_and_nothing_serves(declared: Declared) -> None:
    for kind in ("Node", "Host", "Member"):
        assert sorted(declared.names(kind)) == [*NAMES]
    assert not [kind for kind, _ in declared.inputs if kind in ("Image", "Weights", "Serving", "Gateway")]


def test_the_control_planes_join_one_after_the_other_and_the_workers_after_them(declared: Declared) -> None:
    members = {name: {after for kind, after in declared.after["Member", name] if kind == "Member"} for name in NAMES}
    assert members["cp-1"] == set()
    assert "cp-1" in members["cp-2"] and "cp-2" in members["cp-3"]
    assert members["gpu-1"] >= {"cp-1", "cp-2", "cp-3"}


def test_only_the_first_is_known_to_the_others_and_has_nobody_to_ask(declared: Declared) -> None:
    asked = {name: declared.inputs["Member", name].get("control_plane", {}).get("name") for name in NAMES}
    assert asked == {"cp-1": None, "cp-2": "cp-1", "cp-3": "cp-1", "gpu-1": "cp-1"}


def test_a_member_knows_its_part_its_name_and_the_one_endpoint(declared: Declared) -> None:
    variables = {name: declared.inputs["Member", name]["vars"] for name in NAMES}
    parts = [variables[name]["kubernetes_part"] for name in NAMES]
    assert parts == ["first", "control-plane", "control-plane", "worker"]
    assert {values["kubernetes_endpoint"] for values in variables.values()} == {"api.example.com:6443"}
    assert variables["gpu-1"]["kubernetes_gpus"] == 8 and variables["cp-1"]["kubernetes_gpus"] == 0
    assert variables["cp-1"]["kubernetes_names"] == ["api.example.com", "192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_a_host_of_the_cluster_has_no_docker_and_its_kubelet_is_no_stranger(declared: Declared) -> None:
    roles = {name: sorted(declared.inputs["Host", name]["roles"]) for name in NAMES}
    assert roles == {"cp-1": ["host"], "cp-2": ["host"], "cp-3": ["host"], "gpu-1": ["host", "rocm"]}
    assert declared.inputs["Host", "gpu-1"]["vars"]["host_foreign_services"] == ["k3s"]


def test_the_outputs_say_where_the_cluster_is_and_have_no_secret(declared: Declared) -> None:
    assert declared.outputs.keys() == {"cluster", "members"}
    assert declared.outputs["cluster"].keys() == {"endpoint", "authority", "version"}


def test_an_update_asks_the_control_planes_who_takes_pods_and_follows_each_member(declared: Declared) -> None:
    (census, *passed) = declared.calls
    assert census[0] == "fleet:index:census"
    assert (census[1]["order"], census[1]["planes"]) == ([*NAMES], [*NAMES[:3]])
    assert census[1]["nodes"].keys() == {*NAMES}
    assert sorted((token, arguments["node"], arguments["ok"]) for token, arguments, _ in passed) == [
        ("fleet:index:passed", name, True) for name in NAMES
    ]


def test_a_preview_knows_the_order_of_an_upgrade_and_who_takes_no_pods() -> None:
    ((token, arguments, _),) = run("cluster", cluster_of_machines.config(), {}, preview=True).calls
    assert token == "fleet:index:forecast"
    assert (arguments["order"], arguments["planes"], arguments["podless"]) == ([*NAMES], [*NAMES[:3]], [*NAMES[:3]])
