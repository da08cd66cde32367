"""`fleet verify` on a Kubernetes cluster: every pod of a stack is ready, has the image and the template of the record, and passes all probes.

Called by verify.py, with the outputs of the stack. The bytes of the weights are compared by their Jobs, which a report says how to repeat.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fleet import errors, probes
from fleet.cli import pods, table
from fleet.cli.pods import Rollout
from fleet.cluster import Access
from fleet.cluster.pods import Pod

HEAD = ("model", "pod", "node", "state", "probes", "verdict")
SERVER = "vllm"  # the container of the vLLM server

RunProbes = Callable[[str, str, str, Sequence[probes.Case], Callable[[str], None]], Sequence[probes.ProbeResult]]


@dataclass(frozen=True)
class PodReport:
    """The differences of one pod as {what, expected, seen}, or why it could not be asked. `probes` is such as 12/12."""

    model: str
    pod: str
    node: str
    state: str
    probes: str = "-"
    wrong: list[dict[str, str]] = field(default_factory=list)
    error: str = ""
    restart: str = ""  # the command that lets Kubernetes make a pod again that sees wrongly


def verify(
    rollouts: Mapping[str, Rollout],
    names: Sequence[str],
    cases: Sequence[probes.Case],
    key: str,
    note: Callable[[str], None],
    run: RunProbes = probes.run,
) -> list[PodReport]:
    """Verify the pods with these names, or of these models or nodes, all without a name. Raises FleetError for an unknown name."""
    return [_verify(model, rollouts[model], pod, cases, key, note, run) for model, pod in _chosen(rollouts, names)]


def _chosen(rollouts: Mapping[str, Rollout], names: Sequence[str]) -> list[tuple[str, Pod]]:
    every = [(model, pod) for model, rollout in rollouts.items() for pod in rollout["live"] if not pod.deleting]
    known = {each: {model, pod.name, f"{model}/{pod.name}", pod.node} for each in every for model, pod in [each]}
    for name in names:
        if not any(name in words for words in known.values()):
            wanted = ", ".join(dict.fromkeys(f"{model}/{pod.name}" for model, pod in every))
            raise errors.FleetError(node=name, doing="verify", seen="no such pod, model or node", wanted=wanted)
    return [each for each in every if not names or known[each] & set(names)]


def _verify(
    model: str,
    rollout: Rollout,
    pod: Pod,
    cases: Sequence[probes.Case],
    key: str,
    note: Callable[[str], None],
    run: RunProbes,
) -> PodReport:
    wrong = list(_differences(rollout, pod))
    report = PodReport(model, pod.name, pod.node or "-", pod.state, wrong=wrong)
    if not pod.ready or pod.deleting:
        return report
    try:
        with pods.forward(rollout, pod.name, 0) as url:
            results = run(url, key, rollout["model"], cases, lambda text: note(f"{model}/{pod.name}: {text}"))
    except errors.FleetError as error:
        return PodReport(model, pod.name, pod.node, pod.state, wrong=wrong, error=str(error))
    gating = [result for result in results if result.gates]
    refused = [
        _wrong(f"probe {result.case.name}", "a right answer", result.seen) for result in gating if result.refused
    ]
    access = Access.from_inputs(rollout["cluster"])
    restart = access.kubectl("delete", "pod", "-n", rollout["namespace"], pod.name) if refused else ""
    passed = f"{sum(result.passed for result in gating)}/{len(gating)}"
    return PodReport(model, pod.name, pod.node, pod.state, passed, [*wrong, *refused], restart=restart)


def _differences(rollout: Rollout, pod: Pod) -> Iterator[dict[str, str]]:
    """Yield what of a pod is not as the last change that passed the probes left it."""
    if not pod.ready:
        reason = "; ".join(
            filter(None, (pod.state, pod.unplaced, pod.problem, *(each.message for each in pod.containers)))
        )
        yield _wrong("state", "ready", reason)
    image, digest = str(rollout.get("image") or ""), str(rollout.get("image") or "").rpartition("@")[2]
    if image and pod.image != image:
        yield _wrong("image", image, pod.image)
    running = next((each.image_id for each in pod.containers if each.name == SERVER), "")
    if image and "@sha256:" in running and running.rpartition("@")[2] != digest:
        yield _wrong("image that runs", digest, running)
    good = (rollout.get("good") or {}).get("hash")
    if good and pod.template_hash != good:
        yield _wrong("template", f"{good}, which has passed the probes", pod.template_hash)


def _wrong(what: str, expected: str, seen: str) -> dict[str, str]:
    return {"what": what, "expected": expected, "seen": seen}


def as_table(reports: Sequence[PodReport]) -> str:
    """Return one line per pod."""
    return table.columns([HEAD, *map(_row, reports)])


def _row(report: PodReport) -> tuple[str, ...]:
    count = len(report.wrong)
    verdict = f"{count} {'thing differs' if count == 1 else 'things differ'}" if count else "as recorded"
    if report.error:
        verdict = "could not ask"
    return report.model, report.pod, report.node, report.state, report.probes, verdict


def problems(reports: Sequence[PodReport], stack: str) -> list[str]:
    """Return a message for each pod with differences, and for each that could not be asked."""
    return [report.error or _message(report, stack) for report in reports if report.error or report.wrong]


def _message(report: PodReport, stack: str) -> str:
    shown = [f"{wrong['what']}: {wrong['seen']}\n  recorded: {wrong['expected']}" for wrong in report.wrong]
    mend = (
        f"`pulumi up --refresh -s {stack} --policy-pack policies` makes the pods what the stack says, and probes them"
    )
    again = f"{report.restart}; its successor gets no request before it sees"
    return str(
        errors.FleetError(
            node=report.node.strip("-"),
            doing=f"verify {report.model}/{report.pod}",
            seen="\n".join(shown),
            next="\n".join(
                [*([mend] if len(report.wrong) > _probes(report) else []), *([again] if report.restart else [])]
            ),
        )
    )


def _probes(report: PodReport) -> int:
    """Return how many of the differences are wrong answers."""
    return sum(wrong["what"].startswith("probe ") for wrong in report.wrong)


def about_weights(rollouts: Mapping[str, Rollout], namespace: str, stack: str) -> str:
    """Return how the bytes of the weights are compared again."""
    access = Access.from_inputs(next(iter(rollouts.values()))["cluster"])
    command = access.kubectl("delete", "jobs", "-n", namespace, "-l", "app.kubernetes.io/managed-by=glm-fleet")
    return (
        f"The bytes of the weights: their Jobs have compared them. Once more: {command};\n"
        f"then `pulumi up --refresh -s {stack} --policy-pack policies`, whose Jobs compare them and fetch what is wrong"
    )


def to_json(reports: Sequence[PodReport]) -> str:
    """Return the reports as JSON."""
    rows: list[dict[str, Any]] = [asdict(report) for report in reports]
    return json.dumps(rows, indent=1)
