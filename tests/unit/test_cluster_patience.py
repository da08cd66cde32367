"""How long a trouble of a change may last: one that an earlier `up` has left may be mended by now, and counts when it happens again."""

from fleet.cluster import pods, verdicts
from fleet.cluster.kubeconfig import Access
from fleet.cluster.pods import Container, Pod
from fleet.cluster.verdicts import BACKOFF, PULL, Patience, Trouble
from fleet.cluster.workloads import Deployment, ReplicaSet

ACCESS = Access("prod")
TEMPLATE = {"metadata": {}, "spec": {}}


def pod(uid: str = "1", **container: object) -> Pod:
    fields = {"name": "vllm", "ready": False, "restarts": 0, "waiting": "", "message": "", "exit_code": None, "end": ""}
    own = Container(**{**fields, "image_id": "", **container})  # type: ignore[arg-type]
    texts = {"namespace": "glm", "node": "a", "template_hash": "h", "owner": "glm-h", "phase": "Running", "created": ""}
    state = {"gpus": 8, "deleting": False, "ready": False, "image": "", "unplaced": "", "problem": ""}
    return Pod(name=f"glm-h-{uid}", uid=uid, containers=(own,), **texts, **state)  # type: ignore[arg-type]


def deployment(observed: bool = True, overdue: bool = False) -> Deployment:
    counts = {"replicas": 1, "updated": 1, "available": 0, "total": 1}
    own = ReplicaSet("glm-h", "h", "one", 1, 1, TEMPLATE)
    names = {"name": "glm", "namespace": "glm", "uid": "d", "labels": {}, "digest": "one", "template": TEMPLATE}
    return Deployment(**names, **counts, observed=observed, sets=[own], overdue=overdue)  # type: ignore[arg-type]


def of(found: pods.Pod, changed: Deployment | None = None) -> list[Trouble]:
    return verdicts.troubles(changed or deployment(), [found], [], ACCESS)


def crash(times: int) -> list[Trouble]:
    return of(pod(restarts=times, exit_code=1))


BACK_OFF = pod(waiting="ImagePullBackOff")


def test_a_crash_of_this_change_ends_it_at_once() -> None:
    patience = Patience(again=False)
    assert not patience.ended([], 0)
    assert patience.ended(crash(2), 1)
    assert Patience(again=False).ended(crash(2), 0), "at the first look, too"


def test_a_crash_that_an_earlier_up_has_left_counts_when_it_happens_again() -> None:
    patience = Patience(again=True)
    assert not patience.ended(crash(5), 0)
    assert not patience.ended(crash(5), 10_000)
    assert patience.ended(crash(6), 10_001)


def test_an_image_that_an_earlier_up_could_not_pull_has_until_the_kubelet_s_next_try() -> None:
    patience = Patience(again=True)
    assert not patience.ended(of(BACK_OFF), 0)
    assert not patience.ended(of(BACK_OFF), PULL + BACKOFF - 1)
    assert patience.ended(of(BACK_OFF), PULL + BACKOFF)


def test_a_name_of_an_image_that_is_none_is_not_waited_for() -> None:
    assert Patience(again=True).ended(of(pod(waiting="InvalidImageName")), 0)


def test_a_trouble_that_was_gone_for_a_while_is_a_new_one() -> None:
    patience = Patience(again=True)
    patience.ended(of(BACK_OFF), 0)
    patience.ended([], 5)
    patience.ended(of(BACK_OFF), 10)
    assert patience.ended(of(BACK_OFF), 10 + PULL)


def test_a_pod_that_came_later_has_no_older_troubles() -> None:
    patience = Patience(again=True)
    patience.ended(crash(2), 0)
    assert patience.ended(of(pod("2", restarts=2, exit_code=1)), 1)


def test_a_deadline_that_has_passed_before_this_change_does_not_end_it() -> None:
    overdue = of(pod(), deployment(overdue=True))
    assert not Patience(again=True).ended(overdue, 0)
    assert Patience(again=False).ended(overdue, 0)


def test_a_deadline_of_a_template_that_the_controller_has_not_seen_says_nothing() -> None:
    assert of(pod(), deployment(observed=False, overdue=True)) == []
