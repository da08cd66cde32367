"""A real node whose python3 rewrites its output, with real roles: the controller runs nothing of it, each run ends in one message and keeps its state.

The node, the hub, Ansible and the roles weights and vllm are real. tests/provider/test_hostile.py has each output and each order alone.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import errors, ssh
from fleet.provider import base
from fleet.provider.base import InitFailed
from fleet.provider.playbook import Playbook
from fleet.provider.properties import Props
from fleet.provider.slots import Slots
from fleet.provider.weights import Weights
from fleet.stack import resource_roles
from tests.support import hostile_python, labs
from tests.support.role_node import COMMON, KEY, SERVED

pytestmark = [pytest.mark.docker, pytest.mark.exhaustive, pytest.mark.timeout(900)]

OUTPUTS = ("path", "revision", "bytes", "files", "manifest")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    with labs.stand("glm-hostile", {"ubuntu": "ubuntu-24.04"}, tmp_path_factory.mktemp("lab") / "keys") as lab:
        yield lab


@pytest.fixture(scope="module")
def node(lab: labs.Lab) -> ssh.Target:
    return lab.nodes["ubuntu"]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("controller") / "run-here"


@pytest.fixture(autouse=True)
def nothing_runs_here(trace: Path) -> Iterator[None]:
    yield
    assert not trace.exists()


@pytest.fixture(scope="module", autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("FLEET_STATE", str(folder))
        yield folder


def inputs(lab: labs.Lab, node: ssh.Target, kind: str, **more: Any) -> Props:
    target = {key: getattr(node, key) for key in ("name", "address", "port", "user", "identity", "host_key")}
    variables = {**lab.vars, **COMMON, **SERVED, **more}
    own = {name: value for name, value in variables.items() if name.startswith(resource_roles.ROLES[kind])}
    return {"node": target, "roles": {}, "vars": own}


def request(kind: str) -> base.Request:
    return base.Request(f"urn:pulumi:s::p::fleet:index:{kind}::ubuntu", lambda *_: None, threading.Event())


def weights() -> Weights:
    return Weights("Weights", OUTPUTS, Slots())


@pytest.fixture(scope="module")
def honest(lab: labs.Lab, node: ssh.Target) -> Props:
    """The outputs of Weights, fetched before the node became hostile."""
    return weights().apply(request("Weights"), inputs(lab, node, "weights"), None)


RULES = {"every path": r"s|/srv/models/lab|/srv/EVIL/lab|g", "the output path": r's|\\"path\\": \\"/srv|&EVIL|g'}


@pytest.fixture
def hostile(node: ssh.Target, honest: Props, trace: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the rule by which the node's python3 rewrites its output."""
    rule = RULES[request.param].replace("EVIL", hostile_python.expression(trace))
    with ssh.connect(node) as connection:
        result = connection.run(hostile_python.plant(rule))
        assert result.rc == 0, result.stderr
        yield request.param
        assert connection.run(hostile_python.REMOVE).rc == 0


@pytest.mark.parametrize("hostile", RULES, indirect=True)
def test_an_update_ends_in_one_message_and_keeps_the_state(
    lab: labs.Lab, node: ssh.Target, honest: Props, hostile: str
) -> None:
    with pytest.raises(InitFailed) as caught:
        weights().apply(request("Weights"), inputs(lab, node, "weights", weights_tries=6), honest)
    assert isinstance(caught.value.error, errors.OutputMalformed)
    output = "managed.declared" if hostile == "every path" else "path"
    assert str(caught.value).startswith(f"ubuntu: output {output} of Weights: ")
    assert "{{ lookup(" in str(caught.value)
    state = caught.value.properties
    assert {name: state[name] for name in OUTPUTS} == {name: honest[name] for name in OUTPUTS}
    assert state["managed"]["declared"].keys() >= honest["managed"]["declared"].keys()
    assert "{{" not in str(state["managed"])


@pytest.mark.parametrize("hostile", ["every path"], indirect=True)
def test_a_refresh_ends_in_one_message(honest: Props, hostile: str) -> None:
    with pytest.raises(errors.DriftUnreadable, match=r"ubuntu: read the managed state: .*\{\{ lookup\("):
        weights().read(request("Weights"), honest)


@pytest.mark.parametrize("hostile", ["every path"], indirect=True)
def test_a_serving_of_an_earlier_release_s_poisoned_results_evaluates_nothing(
    lab: labs.Lab, node: ssh.Target, hostile: str, trace: Path
) -> None:
    """The role vllm's own preflight refuses them: its tests and filters take such text as any other."""
    text = hostile_python.expression(trace)
    paths = {"vllm_image": text, "vllm_model_dir": f"/srv/{text}", "vllm_model_manifest": text}
    with pytest.raises(InitFailed) as caught:
        Playbook("Serving", (), Slots()).apply(
            request("Serving"), {**inputs(lab, node, "serving", **paths), "api_key": KEY}, None
        )
    assert str(caught.value).startswith(f'ubuntu: vllm: Check that the image is pinned: vllm_image is "{text}"')


@pytest.mark.parametrize("hostile", ["every path"], indirect=True)
def test_a_delete_of_a_poisoned_state_evaluates_nothing(honest: Props, hostile: str, trace: Path) -> None:
    text = hostile_python.expression(trace)
    things = {f"file /srv/{text}": True, f"unit {text}.service": True, f"sysctl {text}": True}
    weights().delete(request("Weights"), {**honest, "path": text, "managed": {"declared": things, "expected": {}}})


def test_the_next_run_on_a_repaired_node_succeeds(lab: labs.Lab, node: ssh.Target, honest: Props) -> None:
    outputs = weights().apply(request("Weights"), inputs(lab, node, "weights"), honest)
    assert {name: outputs[name] for name in OUTPUTS} == {name: honest[name] for name in OUTPUTS}
    assert outputs["managed"]["declared"] == honest["managed"]["declared"]
