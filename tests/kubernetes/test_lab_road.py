"""The road onto the lab's cluster, as `make up STACK=lab-kubernetes` makes it: real kubelets, the real vLLM in pods, clients in a pod.

The tests run in the order of the file: each leaves the stack converged for the next.
"""

import concurrent.futures
import re
from collections.abc import Iterator

import pytest

from tests.support.cluster_road import SPACE, WORKERS, ClusterRoad
from tests.support.environment import expect_failure, expect_success

# Ten minutes of two idle cores, and ten more where Kubernetes was not yet built.
pytestmark = [pytest.mark.exhaustive, pytest.mark.needs("docker", "pulumi"), pytest.mark.timeout(3600)]
NODES = ["glm-1", "glm-2"]
ANSWERS, SECONDS = 8, 300  # so many after each event, within that time


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRoad]:
    road = ClusterRoad(tmp_path_factory.mktemp("road") / "glm-fleet", "lab-cluster-test")
    yield road
    expect_success(road.make("down"))
    assert road.left_overs() == []


@pytest.fixture(scope="module")
def first_up(road: ClusterRoad) -> str:
    """The output of the first `make up`."""
    return expect_success(road.make("up"))


def test_up_makes_a_cluster_and_a_pod_that_passes_all_probes_on_each_node(road: ClusterRoad, first_up: str) -> None:
    rows = re.findall(r"(?m)^glm +glm-\S+ +(glm-\d) +ready +[0-9a-f]{12} +(\d+)/(\d+) ", first_up)
    assert sorted(row[0] for row in rows) == NODES, first_up
    assert all(passed == total and int(total) >= 12 for _, passed, total in rows)


def test_the_lines_to_paste_work(road: ClusterRoad, first_up: str) -> None:
    assert road.paste().startswith("<|begin_of_box|>[[")


def test_a_second_up_and_a_refresh_change_nothing(road: ClusterRoad, first_up: str) -> None:
    expect_success(road.up("--expect-no-changes"))
    expect_success(road.preview("--refresh", "--expect-no-changes"))


def test_a_flag_loses_no_request_of_clients_that_connect_anew(road: ClusterRoad, first_up: str) -> None:
    before = road.pods()
    road.set_length(7936)
    assert "restarts 2 pods of glm, one at a time" in expect_success(road.preview("--diff"))
    with road.clients() as clients:
        clients.wait_for(ANSWERS, SECONDS)
        expect_success(road.up())
        clients.wait_for(ANSWERS, SECONDS)
        sums = clients.end()
    print(f"a flag: {sums}")
    assert sums.failures == [] and sums.requests > 50
    assert road.pods().keys().isdisjoint(before)


def test_a_flag_loses_no_request_of_clients_that_keep_connections_to_a_gateway(
    road: ClusterRoad, first_up: str
) -> None:
    road.set_length(7808)
    with road.clients_of_gateway() as clients:
        clients.wait_for(ANSWERS, SECONDS)
        expect_success(road.up())
        clients.wait_for(ANSWERS, SECONDS)
        sums = clients.end()
    print(f"a flag, through a gateway: {sums}")
    assert sums.failures == [] and sums.requests > 50


def test_a_bad_flag_stops_at_its_first_pod_and_goes_back_by_itself(road: ClusterRoad, first_up: str) -> None:
    with road.clients() as clients:
        clients.wait_for(ANSWERS, SECONDS)
        road.set_length(300)
        message = expect_failure(road.up())
        clients.wait_for(ANSWERS, SECONDS)
        sums = clients.end()
    print(f"a bad flag: {sums}\n{message[message.find('Diagnostics') :]}")
    assert "went back to the template that served before: 2 of 2 pods serve it" in message
    assert sums.failures == []
    road.set_length(7936)
    expect_success(road.up())
    road.wait_for_pods(NODES)


def test_a_change_by_hand_is_previewed_and_mended(road: ClusterRoad, first_up: str) -> None:
    space = f"--namespace={SPACE}"
    road.kubectl("scale", space, "deployment/glm", "--replicas=1")
    edit = ("--type=merge", '--patch={"spec":{"maxUnavailable":2}}', "--field-manager=kubectl-edit")
    road.kubectl("patch", space, "poddisruptionbudget/glm", *edit)
    seen = expect_success(road.preview("--refresh", "--diff"))
    assert "maxUnavailable: 2 => 1" in seen and re.search(r"replicas *: 1 => 2", seen), seen
    assert "glm: await the replicas and probe them again" in seen, seen
    expect_success(road.up("--refresh"))
    road.wait_for_pods(NODES)
    expect_success(road.preview("--refresh", "--expect-no-changes"))


def test_a_drained_node_loses_no_request_and_its_pod_serves_on_the_other(road: ClusterRoad, first_up: str) -> None:
    with road.clients() as clients:
        clients.wait_for(ANSWERS, SECONDS)
        expect_success(road.fleet("drain", "glm-2"))
        road.wait_for_pods(["glm-1", "glm-1"])
        clients.wait_for(ANSWERS, SECONDS)
        sums = clients.end()
    print(f"a drained node: {sums}")
    assert sums.failures == []
    expect_success(road.fleet("undrain", "glm-2"))


def test_a_pod_that_is_killed_loses_what_it_had_in_flight_and_another_comes(road: ClusterRoad, first_up: str) -> None:
    with road.clients() as clients:
        clients.wait_for(ANSWERS, SECONDS)
        before = road.pods()
        delete = ("delete", "pod", f"--namespace={SPACE}", "--grace-period=0", "--force", "--wait=false")
        name = road.kubectl("get", "pods", f"--namespace={SPACE}", "--output=jsonpath={.items[0].metadata.name}")
        road.kubectl(*delete, name)
        road.wait_for_pods(NODES)  # the scheduler spreads them
        clients.wait_for(ANSWERS, SECONDS)
        sums = clients.end()
    print(f"a killed pod: {sums}")
    assert len(sums.failures) <= WORKERS
    assert road.pods().keys() != before.keys()


def test_a_lost_node_costs_its_requests_until_kubernetes_notices_and_it_serves_again(
    road: ClusterRoad, first_up: str
) -> None:
    with road.clients() as clients:
        clients.wait_for(ANSWERS, SECONDS)
        road.power("stop", "glm-2")
        road.kubectl("wait", "--for=condition=Ready=Unknown", "--timeout=300s", "node/glm-2")
        noticed = len(clients.so_far().failures)
        clients.wait_for(4 * ANSWERS, SECONDS)
        after = len(clients.so_far().failures)
        road.power("start", "glm-2")
        road.kubectl("wait", "--for=condition=Ready", "--timeout=300s", "node/glm-2")
        road.wait_for_pods()  # its kubelet may refuse the old pod before the GPUs are there: the scheduler places another anywhere
        sums = clients.end()
    print(f"a lost node: {sums}; {noticed} before Kubernetes noticed, {after} soon after it")
    assert after - noticed <= WORKERS, "those that were still waiting for the lost node"
    expect_success(road.up("--refresh"))
    expect_success(road.fleet("probe"))


def test_another_key_refuses_the_old_one_and_cuts_nobody_off(road: ClusterRoad, first_up: str) -> None:
    old, new = road.output("api_key"), "another-key-of-the-test-with-forty-letters"
    road.set_key(new)
    with road.clients(old) as clients:
        clients.wait_for(ANSWERS, SECONDS)
        expect_success(road.up())
        sums = clients.end()
    print(f"another key: {sums}")
    assert sums.failures and all(": 401 " in failure for failure in sums.failures)
    with road.clients(new) as clients:
        clients.wait_for(ANSWERS, SECONDS)
        assert clients.end().failures == []


def test_an_update_whose_api_server_goes_fails_with_its_name_and_the_next_one_converges(
    road: ClusterRoad, first_up: str
) -> None:
    before = road.pods()
    road.set_length(7680)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        update = pool.submit(road.up)
        while before.keys() <= road.pods().keys() and not update.done():
            pass  # each look takes a second
        road.power("stop", "control-plane")
        message = expect_failure(update.result())
    print(message[message.find("Diagnostics") :])
    assert "glm-fleet-lab" in message
    road.power("start", "control-plane")
    expect_success(road.up())
    assert road.pods().keys().isdisjoint(before)
    road.wait_for_pods(NODES)
