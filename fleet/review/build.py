"""Makes the report of a preview, from its events, the stack file's settings and the evidence.

Pure. Called by fleet.cli.review and fleet.cli.apply.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.review import vulnerabilities
from fleet.review.events import SUCCEEDED, Preview
from fleet.review.record import Prediction
from fleet.review.report import Evidence, Remark, Report, Waiver

# The policies whose remarks are waivers, which the report lists itself.
WAIVERS = ("waivers",)
NOTHING_PREDICTED = Prediction((), {})
MODEL = "Rollout"
INCOMPLETE = "the preview ended before everything was previewed; `pulumi preview` shows its output"


@dataclass(frozen=True)
class Stack:
    """What a report takes from the stack file: the remarks of the rules that need no connection, and the waivers."""

    name: str
    remarks: Sequence[Remark] = ()
    waivers: Sequence[Waiver] = ()
    vulnerabilities: Sequence[Mapping[str, str]] = field(default_factory=list)


def report(preview: Preview, stack: Stack, evidence: Evidence, policies: bool) -> Report:
    """Return the report; `policies` is whether the preview ran the policy pack."""
    prediction = preview.prediction or NOTHING_PREDICTED
    failures = [*preview.failures]
    if not failures and (preview.result != SUCCEEDED or preview.prediction is None):
        failures.append(INCOMPLETE)
    by_policies = [remark for remark in preview.remarks.values() if remark.rule not in WAIVERS]
    remarks = sorted([*stack.remarks, *by_policies], key=lambda remark: (not remark.mandatory, remark.rule))
    return Report(
        stack.name,
        prediction,
        tuple(sorted(preview.operations.values(), key=lambda operation: operation.urn)),
        evidence,
        tuple(remarks),
        tuple(stack.waivers),
        tuple(vulnerabilities.moved(prediction.versions, stack.vulnerabilities)),
        tuple(failures),
        tuple(_unchecked(prediction, evidence, policies)),
        preview.unchanged,
    )


def _unchecked(prediction: Prediction, evidence: Evidence, policies: bool) -> Iterator[str]:
    """Yield what a reviewer may take for checked, and is not."""
    if not evidence.hosts:
        yield "the hosts since the last refresh, for what reads them needs root there (--no-refresh): later drift is not in here"
    if not policies:
        yield "the policies: the preview ran without them"
    if evidence.modified:
        yield "the files: they differ from the commit"
    if any(not change.effect.sure for change in prediction.changes):
        yield "each effect with `may`: the strongest that is possible, only the run shows which it is"
    kinds = {change.kind for change in prediction.changes}
    if kinds - {MODEL}:
        if prediction.unrendered:
            yield f"the files of {prediction.unrendered} more resources, each with variables of its own"
        yield "what roles write by facts of the host: the run reads these"
        yield "whether each node serves now, and whether it will with the change: the run asks before the first turn, and probes each replica"
    if MODEL in kinds:
        yield "the fields of objects: the API server judged them, and `pulumi preview --diff` shows them"
        yield "whether each model serves now, and whether it will with the change: the run follows the pods, and probes each one"
