"""`fleet verify` on a cluster: each pod is compared with the record and probed; what differs is a message with both values."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fleet import errors, probes
from fleet.cli import pod_verify, pods
from fleet.cluster.pods import Container, Pod
from fleet.probes.answer import Answer

GOLDEN = Path(__file__).parent / "golden" / "cli_pod_verify"
DIGEST = "sha256:" + "ab" * 32
IMAGE = f"registry.example/glm/serving@{DIGEST}"
OTHER = "sha256:" + "cd" * 32


def pod(name: str, node: str = "gpu-1", **different: Any) -> Pod:
    """Return a pod that serves, with these parts in place of its own."""
    server = Container("vllm", ready=True, image_id=IMAGE)
    own: dict[str, Any] = {"template_hash": "good", "owner": "glm-good", "gpus": 8, "phase": "Running", "ready": True}
    own |= {"deleting": False, "created": "", "image": IMAGE, "containers": (server,), **different}
    return Pod(name=name, namespace="glm", uid=name, node=node, **own)


def rollouts(*live: Pod) -> dict[str, Any]:
    cluster = {"context": "prod", "kubeconfig": "/kubeconfig"}
    known = {"cluster": cluster, "namespace": "glm", "image": IMAGE, "model": "GLM", "port": 8000}
    return {"glm": {**known, "good": {"hash": "good"}, "live": list(live)}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pods to which the probes went, through a port-forward that leads nowhere."""
    names: list[str] = []

    @contextlib.contextmanager
    def forward(rollout: Any, pod: str, local: int) -> Iterator[str]:
        names.append(pod)
        if pod == "gone":
            raise errors.ClusterRefused(code=404, node="prod", doing="forward a port of pod gone", seen="not found")
        yield "http://127.0.0.1:1"

    monkeypatch.setattr(pods, "forward", forward)
    return names


def right(
    url: str, key: str, model: str, cases: Sequence[probes.Case], note: Callable[[str], None]
) -> list[probes.ProbeResult]:
    note("bottle-grounding (1 of 2)")
    return [probes.ProbeResult(case, Answer(200, "right"), (), 0.1) for case in cases]


def wrong(*arguments: Any) -> list[probes.ProbeResult]:
    first, *others = right(*arguments)
    blind = probes.ProbeResult(first.case, Answer(200, text="a cat"), ("no box",), 0.1)
    return [blind, *others]


def verify(
    *live: Pod, names: Sequence[str] = (), run: Any = right, lines: list[str] | None = None
) -> list[pod_verify.PodReport]:
    cases = probes.load(["bottle-grounding", "photograph"], 0.5)
    return pod_verify.verify(rollouts(*live), names, cases, "key", ([] if lines is None else lines).append, run)


def expect_golden(claim: str, reports: Sequence[pod_verify.PodReport]) -> None:
    text = "\n\n".join([pod_verify.as_table(reports), *pod_verify.problems(reports, "prod")])
    assert text + "\n" == (GOLDEN / f"{claim}.txt").read_text()


def test_pods_as_recorded_that_see_have_no_message(asked: list[str]) -> None:
    lines: list[str] = []
    reports = verify(pod("glm-1"), pod("glm-2", "gpu-2"), lines=lines)
    expect_golden("right", reports)
    assert asked == ["glm-1", "glm-2"]
    assert lines == [f"glm/{name}: bottle-grounding (1 of 2)" for name in asked]


def test_each_difference_is_named_with_what_was_recorded(asked: list[str]) -> None:
    running = Container("vllm", ready=True, image_id=f"registry.example/glm/serving@{OTHER}")
    changed = pod("glm-1", template_hash="other", containers=(running,))
    late = pod("glm-2", "", ready=False, phase="Pending", containers=(), unplaced="0/2 nodes are available")
    expect_golden("differences", verify(changed, late, run=wrong))
    assert asked == ["glm-1"], "a pod that is not ready cannot be asked"


def test_an_image_that_the_node_had_already_has_no_digest_to_compare(asked: list[str]) -> None:
    imported = Container("vllm", ready=True, image_id="sha256:" + "ef" * 32)
    assert [report.wrong for report in verify(pod("glm-1", containers=(imported,)))] == [[]]


def test_a_pod_that_cannot_be_asked_does_not_stop_the_others(asked: list[str]) -> None:
    reports = verify(pod("gone"), pod("glm-2"))
    assert [(report.pod, bool(report.error), report.probes) for report in reports] == [
        ("gone", True, "-"),
        ("glm-2", False, "2/2"),
    ]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("glm-1", ["glm-1"]), ("gpu-2", ["glm-2"]), ("glm", ["glm-1", "glm-2"]), ("glm/glm-2", ["glm-2"])],
)
def test_a_name_is_a_pod_a_node_or_a_model(asked: list[str], name: str, chosen: list[str]) -> None:
    reports = verify(pod("glm-1"), pod("glm-2", "gpu-2"), pod("old", deleting=True), names=[name])
    assert [report.pod for report in reports] == chosen == asked


def test_an_unknown_name_is_refused_with_those_that_are_there(asked: list[str]) -> None:
    with pytest.raises(errors.FleetError) as caught:
        verify(pod("glm-1"), names=["glm-3"])
    assert str(caught.value) == "glm-3: verify: no such pod, model or node\n  wanted: glm/glm-1"
    assert not asked


def test_json_has_a_record_for_each_pod(asked: list[str]) -> None:
    [record] = json.loads(pod_verify.to_json(verify(pod("glm-1"))))
    assert record == {
        "model": "glm",
        "pod": "glm-1",
        "node": "gpu-1",
        "state": "ready",
        "probes": "2/2",
        "wrong": [],
        "error": "",
        "restart": "",
    }


def test_the_report_ends_with_how_the_weights_are_compared_again() -> None:
    assert pod_verify.about_weights(rollouts(), "glm-weights", "prod") == (
        "The bytes of the weights: their Jobs have compared them. Once more: kubectl --kubeconfig /kubeconfig --context prod delete jobs"
        " -n glm-weights -l app.kubernetes.io/managed-by=glm-fleet;\n"
        "then `pulumi up --refresh -s prod --policy-pack policies`, whose Jobs compare them and fetch what is wrong"
    )
