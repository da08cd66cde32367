"""A real node whose python3 rewrites what it prints, with real roles: nothing is run on the controller, each run ends in one message, and the state goes on.

The node, the hub, Ansible and the roles weights and vllm are real. Each output and each order by itself: tests/provider/test_hostile.py.
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
    with labs.stand("glm-hostile", {"ubuntu": "ubuntu-24.04"}, tmp_path_factory.mktemp("lab") / "keys") as standing:
        yield standing


@pytest.fixture(scope="module")
def node(lab: labs.Lab) -> ssh.Target:
    return lab.nodes["ubuntu"]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("controller") / "run-here"


@pytest.fixture(autouse=True)
def nothing_is_run_here(trace: Path) -> Iterator[None]:
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
    given = {**lab.vars, **COMMON, **SERVED, **more}
    own = {name: value for name, value in given.items() if name.startswith(resource_roles.ROLES[kind])}
    return {"node": target, "roles": {}, "vars": own}


def request(kind: str) -> base.Request:
    return base.Request(f"urn:pulumi:s::p::fleet:index:{kind}::ubuntu", lambda *_: None, threading.Event())


def weights() -> Weights:
    return Weights("Weights", OUTPUTS, Slots())


@pytest.fixture(scope="module")
def honest(lab: labs.Lab, node: ssh.Target) -> Props:
    """The weights, fetched while the node was what it should be."""
    return weights().apply(request("Weights"), inputs(lab, node, "weights"), None)


RULES = {"every path": r"s|/srv/models/lab|/srv/EVIL/lab|g", "the output path": r's|\\"path\\": \\"/srv|&EVIL|g'}


@pytest.fixture
def hostile(node: ssh.Target, honest: Props, trace: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The node with its python3 replaced, and what is rewritten there."""
    with ssh.connect(node) as connection:
        planted = connection.run(
            hostile_python.plant(RULES[request.param].replace("EVIL", hostile_python.expression(trace)))
        )
        assert planted.rc == 0, planted.stderr
        yield request.param
        assert connection.run(hostile_python.REMOVE).rc == 0


both = pytest.mark.parametrize("hostile", RULES, indirect=True)


@both
def test_an_update_ends_in_one_message_and_keeps_the_state(
    lab: labs.Lab, node: ssh.Target, honest: Props, hostile: str
) -> None:
    with pytest.raises(InitFailed) as caught:
        weights().apply(request("Weights"), inputs(lab, node, "weights", weights_tries=6), honest)
    assert isinstance(caught.value.error, errors.OutputMalformed)
    what = "managed.declared" if hostile == "every path" else "path"
    assert str(caught.value).startswith(f"ubuntu: output {what} of Weights: ")
    assert "{{ lookup(" in str(caught.value)
    kept = caught.value.properties
    assert {name: kept[name] for name in OUTPUTS} == {name: honest[name] for name in OUTPUTS}
    assert kept["managed"]["declared"].keys() >= honest["managed"]["declared"].keys()
    assert "{{" not in str(kept["managed"])


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
    given = inputs(lab, node, "serving", vllm_image=text, vllm_model_dir=f"/srv/{text}", vllm_model_manifest=text)
    with pytest.raises(InitFailed) as caught:
        Playbook("Serving", (), Slots()).apply(request("Serving"), {**given, "api_key": KEY}, None)
    assert str(caught.value).startswith(f'ubuntu: vllm: Check that the image is pinned: vllm_image is "{text}"')


@pytest.mark.parametrize("hostile", ["every path"], indirect=True)
def test_a_delete_of_a_poisoned_state_evaluates_nothing(honest: Props, hostile: str, trace: Path) -> None:
    text = hostile_python.expression(trace)
    what = {f"file /srv/{text}": True, f"unit {text}.service": True, f"sysctl {text}": True}
    weights().delete(request("Weights"), {**honest, "path": text, "managed": {"declared": what, "expected": {}}})


def test_the_next_run_on_a_node_that_is_right_again_goes_on(lab: labs.Lab, node: ssh.Target, honest: Props) -> None:
    made = weights().apply(request("Weights"), inputs(lab, node, "weights"), honest)
    assert {name: made[name] for name in OUTPUTS} == {name: honest[name] for name in OUTPUTS}
    assert made["managed"]["declared"] == honest["managed"]["declared"]
