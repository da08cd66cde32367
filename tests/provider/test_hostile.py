"""A node that rewrites what its programs print gets nothing run on the controller: not in a create, an update, a refresh or a delete.

The plugin, Ansible and SSH are real; the node is the SSH server of this process, whose answers a test rewrites on their way. Each hostile text is an
expression that Ansible would evaluate on the controller, and leaves a file there when it does. The values by themselves, one by one:
tests/unit/test_provider_outputs.py.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from fleet.provider import outputs
from tests.support.plugin import HalfMade, Plugin, Props, doing, half_made
from tests.support.right_outputs import RIGHT
from tests.support.ssh_server import Server

Answer = dict[str, Any]
pytestmark = pytest.mark.slow  # `make check` has the values one by one: tests/unit/test_provider_outputs.py


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """A file that is there, at the end of the test, when something was run on the controller."""
    trace = tmp_path / "run-on-the-controller"
    yield trace
    assert not trace.exists()


def evil(trace: Path) -> str:
    return f"/srv/{{{{ lookup('ansible.builtin.pipe', 'touch {trace}') }}}}"


@pytest.fixture
def rewrite(server: Server) -> Iterator[Callable[[Callable[[Answer], None]], None]]:
    """Let the node change each answer of a module before it is sent."""

    def begin(change: Callable[[Answer], None]) -> None:
        def every(printed: bytes) -> bytes:
            try:
                answer = json.loads(printed)
            except ValueError:
                return printed
            if isinstance(answer, dict):
                change(answer)
            return json.dumps(answer).encode()

        server.rewrite = every

    yield begin
    server.rewrite = None


def told(kind: str, inputs: Props) -> Props:
    """Return the inputs of a run that tells all outputs of a kind, as they should be."""
    results = {name: RIGHT[kind][name] for name in outputs.RESULTS[kind]}
    more = {"site_kind": kind.lower(), "site_tells": results}
    return {**inputs, "vars": {**inputs["vars"], **more}}


def refused(plugin: Plugin, kind: str, inputs: Props) -> HalfMade:
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create(kind, inputs)
    return half_made(caught.value)


OTHERS = [pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("Host", "Image", "Serving")]


@pytest.mark.parametrize("kind", ["Weights", *OTHERS])
def test_a_run_whose_results_are_rewritten_ends_in_one_message_and_keeps_its_state(
    plugin: Plugin, inputs: Props, folder: Path, rewrite: Callable[..., None], trace: Path, kind: str
) -> None:
    """The first output that has a wrong form is named; the next run goes on with what is kept."""

    def change(answer: Answer) -> None:
        if answer.get("cmd") == ["cat"]:
            answer["stdout"] = json.dumps({name: evil(trace) for name in outputs.RESULTS[kind]})

    rewrite(change)
    half = refused(plugin, kind, told(kind, inputs))
    first = next(iter(outputs.RESULTS[kind]))
    (message,) = half.reasons
    assert message.startswith(f"glm-1: output {first} of {kind}: /srv/{{{{ lookup('ansible.builtin.pipe'")
    assert "\n  wanted: " in message and "\n  next:   the role does not print this" in message
    assert half.properties["managed"]["declared"].keys() == {f"file {folder}/text"}
    assert half.properties[first] is None


def test_a_path_that_a_module_claims_to_have_written_ends_in_one_message(
    plugin: Plugin, inputs: Props, folder: Path, rewrite: Callable[..., None], trace: Path
) -> None:
    def change(answer: Answer) -> None:
        if "backup" in answer:  # of lineinfile
            answer.update(path=evil(trace), dest=evil(trace), diff=evil(trace), invocation=[evil(trace)])

    rewrite(change)
    half = refused(plugin, "Host", told("Host", inputs))
    (message,) = half.reasons
    assert message.startswith("glm-1: output managed.declared of Host: file /srv/{{ lookup('ansible.builtin.pipe'")
    assert half.properties["managed"]["declared"] == {}


LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "/bin/sh -c 'touch TRACE; cat' #"}
ORDERS: Mapping[str, Any] = {
    "add_host": {"host_name": "glm-1", "groups": [], "host_vars": LOCAL},
    "add_group": "evil",
    "ansible_facts": {"site_text": "evil", "site_tells": "evil", "site_kind": "evil", **LOCAL},
    "ansible_stats": {"data": {"fleet_host": {"gpus": 0}}, "per_host": False, "aggregate": True},
    "_ansible_notify": ["evil"],
}


def test_an_answer_that_gives_ansible_orders_is_not_obeyed(
    plugin: Plugin, inputs: Props, folder: Path, rewrite: Callable[..., None], trace: Path
) -> None:
    """Ansible takes new hosts, facts and results out of any module's answer: that would be a host that is reached `local`, in a node's interpreter."""
    orders = json.loads(json.dumps(ORDERS).replace("TRACE", str(trace)))
    rewrite(lambda answer: answer.update(orders) if "invocation" in answer else None)
    made = plugin.create("Host", told("Host", inputs))
    assert {name: made[name] for name in RIGHT["Host"]} == RIGHT["Host"]
    assert made["managed"]["declared"].keys() == {f"file {folder}/text"}
    assert (folder / "text").read_text() == "hello\n"


@pytest.fixture
def poisoned(inputs: Props, folder: Path, trace: Path) -> Props:
    """What an earlier release, which believed its nodes, may have in its state of a Serving: expressions in all that they said."""
    text = evil(trace)
    what = f"file {text}"
    state = {"type": "file", "mode": text, "owner": text, "group": text, "sha256": text}
    managed = {"declared": {what: True, f"{what}2": False}, "expected": {what: state}}
    drift = [{"what": what, "expected": text, "seen": text}]
    given = {"vllm_image": text, "vllm_model_dir": text, "vllm_model_manifest": text}
    return {
        **told("Serving", inputs),
        "vars": {**told("Serving", doing(inputs, "use"))["vars"], **given, "site_tells": {"replicas": []}},
        "api_key": "0123456789",
        "probes": {"cases": [], "min_iou": 0.5},
        "managed": managed,
        "drift": drift,
        "replicas": [{"name": text, "port": 1, "model": text}],
        "verdict": {"passed": 1, "total": 1, "evidence": text},
        "seconds": {},
        "took": {},
        "log": text,
    }


INPUTS = ("node", "roles", "vars", "api_key", "probes")


def test_an_update_with_a_poisoned_state_evaluates_nothing_of_it_and_mends_it(
    plugin: Plugin, poisoned: Props, folder: Path, trace: Path
) -> None:
    """Its variables of other runs, and what it would undo, reach the tasks as the texts that they are."""
    news = {key: poisoned[key] for key in INPUTS}
    made = plugin.update("Serving", news, poisoned, news)
    assert made["managed"]["declared"].keys() == {f"file {folder}/text"}
    log = Path(made["log"]).read_text()
    assert "TASK [site : Ensure what was told before is used]" in log and "failed=0" in log


def test_a_refresh_of_a_poisoned_state_evaluates_nothing_of_it(plugin: Plugin, poisoned: Props, trace: Path) -> None:
    found = plugin.read("Serving", {key: poisoned[key] for key in INPUTS}, poisoned)
    assert [(one["attribute"], one["seen"]) for one in found["drift"]] == [("present", False)]


def test_a_delete_of_a_poisoned_state_evaluates_nothing_of_it(plugin: Plugin, poisoned: Props, trace: Path) -> None:
    plugin.delete("Serving", poisoned)


def test_a_refresh_whose_answer_is_rewritten_ends_in_one_message(
    plugin: Plugin, inputs: Props, rewrite: Callable[..., None], trace: Path
) -> None:
    kept = {"declared": {"file /etc/hostname": False}, "expected": {}}
    properties = {**told("Host", inputs), "managed": kept}

    def change(answer: Answer) -> None:
        answer.clear()
        answer[f"file {evil(trace)}"] = {"type": "file", "mode": evil(trace)}

    rewrite(change)
    with pytest.raises(grpc.RpcError) as caught:
        plugin.read("Host", told("Host", inputs), properties)
    assert caught.value.details().startswith(
        "glm-1: read the managed state: malformed reply: a name: file /srv/{{ lookup('ansible.builtin.pipe'"
    )


def test_a_node_whose_facts_are_rewritten_ends_in_one_message(
    plugin: Plugin, connection: Props, rewrite: Callable[..., None], trace: Path
) -> None:
    rewrite(lambda answer: answer.update(kernel=evil(trace)))
    with pytest.raises(grpc.RpcError) as caught:
        plugin.create("Node", {**connection, "wait": 30})
    assert caught.value.details().startswith(
        "glm-1: output facts.kernel of Node: /srv/{{ lookup('ansible.builtin.pipe'"
    )


def test_a_user_s_own_expression_is_evaluated_as_ever(plugin: Plugin, inputs: Props, folder: Path) -> None:
    own = {**inputs, "vars": {**inputs["vars"], "site_text": "{{ ['hel', 'lo'] | join }}", "site_kind": "host"}}
    own["vars"]["site_tells"] = {name: RIGHT["Host"][name] for name in outputs.RESULTS["Host"]}
    made = plugin.create("Host", own)
    assert (folder / "text").read_text() == "hello\n"
    assert made["gpus"] == 8
