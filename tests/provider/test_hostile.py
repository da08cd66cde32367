"""A node that rewrites its programs' output runs nothing on the controller: not in a create, an update, a refresh or a delete.

The plugin, Ansible and SSH are real; the node is the SSH server of this process, whose answers a test rewrites. Each hostile text is an
expression that leaves a file on the controller if Ansible evaluates it there. tests/unit/test_provider_outputs.py has the values one by one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet.provider import outputs
from tests.support.plugin import PartialState, Plugin, Props, doing, expect_error, partial_state
from tests.support.right_outputs import RIGHT
from tests.support.ssh_server import Server

Answer = dict[str, Any]
pytestmark = pytest.mark.slow  # `make check` has the values one by one: tests/unit/test_provider_outputs.py


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Path]:
    """A file that exists, at the end of the test, if the controller ran something of the node's."""
    trace = tmp_path / "run-on-the-controller"
    yield trace
    assert not trace.exists()


def evil(trace: Path) -> str:
    return f"/srv/{{{{ lookup('ansible.builtin.pipe', 'touch {trace}') }}}}"


@pytest.fixture
def rewrite(server: Server) -> Iterator[Callable[[Callable[[Answer], None]], None]]:
    """Let the node change each answer of a module."""

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


def reporting(kind: str, inputs: Props) -> Props:
    """Return the inputs of a run that reports right values for all outputs of a kind."""
    results = {name: RIGHT[kind][name] for name in outputs.RESULTS[kind]}
    more = {"site_kind": kind.lower(), "site_tells": results}
    return {**inputs, "vars": {**inputs["vars"], **more}}


def failed_create(plugin: Plugin, kind: str, inputs: Props) -> PartialState:
    return partial_state(expect_error(plugin.create, kind, inputs))


OTHERS = [pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("Host", "Image", "Serving")]


@pytest.mark.parametrize("kind", ["Weights", *OTHERS])
def test_a_run_whose_results_are_rewritten_ends_in_one_message_and_keeps_its_state(
    plugin: Plugin, inputs: Props, folder: Path, rewrite: Callable[..., None], trace: Path, kind: str
) -> None:
    """The message names the first output of a wrong form; the next run continues with the kept state."""

    def change(answer: Answer) -> None:
        if answer.get("cmd") == ["cat"]:
            answer["stdout"] = json.dumps({name: evil(trace) for name in outputs.RESULTS[kind]})

    rewrite(change)
    partial = failed_create(plugin, kind, reporting(kind, inputs))
    first = next(iter(outputs.RESULTS[kind]))
    (message,) = partial.reasons
    assert message.startswith(f"glm-1: output {first} of {kind}: /srv/{{{{ lookup('ansible.builtin.pipe'")
    assert "\n  wanted: " in message and "\n  next:   the role does not print this" in message
    assert partial.properties["managed"]["declared"].keys() == {f"file {folder}/text"}
    assert partial.properties[first] is None


def test_a_false_path_from_a_module_ends_in_one_message(
    plugin: Plugin, inputs: Props, folder: Path, rewrite: Callable[..., None], trace: Path
) -> None:
    def change(answer: Answer) -> None:
        if "backup" in answer:  # of lineinfile
            answer.update(path=evil(trace), dest=evil(trace), diff=evil(trace), invocation=[evil(trace)])

    rewrite(change)
    partial = failed_create(plugin, "Host", reporting("Host", inputs))
    (message,) = partial.reasons
    assert message.startswith("glm-1: output managed.declared of Host: file /srv/{{ lookup('ansible.builtin.pipe'")
    assert partial.properties["managed"]["declared"] == {}


LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "/bin/sh -c 'touch TRACE; cat' #"}
ORDERS: Mapping[str, Any] = {
    "add_host": {"host_name": "glm-1", "groups": [], "host_vars": LOCAL},
    "add_group": "evil",
    "ansible_facts": {"site_text": "evil", "site_tells": "evil", "site_kind": "evil", **LOCAL},
    "ansible_stats": {"data": {"fleet_host": {"gpus": 0}}, "per_host": False, "aggregate": True},
    "_ansible_notify": ["evil"],
}


def test_ansible_obeys_no_order_in_a_module_s_answer(
    plugin: Plugin, inputs: Props, folder: Path, rewrite: Callable[..., None], trace: Path
) -> None:
    """Ansible reads new hosts, facts and results from any module's answer, such as a `local` connection with a node's interpreter."""
    orders = json.loads(json.dumps(ORDERS).replace("TRACE", str(trace)))
    rewrite(lambda answer: answer.update(orders) if "invocation" in answer else None)
    state = plugin.create("Host", reporting("Host", inputs))
    assert {name: state[name] for name in RIGHT["Host"]} == RIGHT["Host"]
    assert state["managed"]["declared"].keys() == {f"file {folder}/text"}
    assert (folder / "text").read_text() == "hello\n"


@pytest.fixture
def poisoned(inputs: Props, folder: Path, trace: Path) -> Props:
    """A state of a Serving from an earlier release, which believed its nodes: expressions in all their values."""
    text = evil(trace)
    thing = f"file {text}"
    state = {"type": "file", "mode": text, "owner": text, "group": text, "sha256": text}
    managed = {"declared": {thing: True, f"{thing}2": False}, "expected": {thing: state}}
    drift = [{"what": thing, "expected": text, "seen": text}]
    paths = {"vllm_image": text, "vllm_model_dir": text, "vllm_model_manifest": text}
    return {
        **reporting("Serving", inputs),
        "vars": {**reporting("Serving", doing(inputs, "use"))["vars"], **paths, "site_tells": {"replicas": []}},
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


def test_an_update_with_a_poisoned_state_evaluates_nothing_of_it_and_repairs_it(
    plugin: Plugin, poisoned: Props, folder: Path, trace: Path
) -> None:
    """Its variables of other runs, and its teardown, reach the tasks as plain text."""
    news = {key: poisoned[key] for key in INPUTS}
    state = plugin.update("Serving", news, poisoned, news)
    assert state["managed"]["declared"].keys() == {f"file {folder}/text"}
    log = Path(state["log"]).read_text()
    assert "TASK [site : Use the results of other runs]" in log and "failed=0" in log


def test_a_refresh_of_a_poisoned_state_evaluates_nothing_of_it(plugin: Plugin, poisoned: Props, trace: Path) -> None:
    state = plugin.read("Serving", {key: poisoned[key] for key in INPUTS}, poisoned)
    assert [(difference["attribute"], difference["seen"]) for difference in state["drift"]] == [("present", False)]


def test_a_delete_of_a_poisoned_state_evaluates_nothing_of_it(plugin: Plugin, poisoned: Props, trace: Path) -> None:
    plugin.delete("Serving", poisoned)


def test_a_refresh_whose_answer_is_rewritten_ends_in_one_message(
    plugin: Plugin, inputs: Props, rewrite: Callable[..., None], trace: Path
) -> None:
    managed = {"declared": {"file /etc/hostname": False}, "expected": {}}
    properties = {**reporting("Host", inputs), "managed": managed}

    def change(answer: Answer) -> None:
        answer.clear()
        answer[f"file {evil(trace)}"] = {"type": "file", "mode": evil(trace)}

    rewrite(change)
    details = expect_error(plugin.read, "Host", reporting("Host", inputs), properties).details()
    assert details.startswith(
        "glm-1: read the managed state: malformed reply: a name: file /srv/{{ lookup('ansible.builtin.pipe'"
    )


def test_a_node_whose_facts_are_rewritten_ends_in_one_message(
    plugin: Plugin, connection: Props, rewrite: Callable[..., None], trace: Path
) -> None:
    rewrite(lambda answer: answer.update(kernel=evil(trace)))
    details = expect_error(plugin.create, "Node", {**connection, "wait": 30}).details()
    assert details.startswith("glm-1: output facts.kernel of Node: /srv/{{ lookup('ansible.builtin.pipe'")


def test_ansible_still_evaluates_a_user_s_own_expression(plugin: Plugin, inputs: Props, folder: Path) -> None:
    own = {**inputs, "vars": {**inputs["vars"], "site_text": "{{ ['hel', 'lo'] | join }}", "site_kind": "host"}}
    own["vars"]["site_tells"] = {name: RIGHT["Host"][name] for name in outputs.RESULTS["Host"]}
    state = plugin.create("Host", own)
    assert (folder / "text").read_text() == "hello\n"
    assert state["gpus"] == 8
