"""Reads the Pulumi engine's event log of one preview: its steps, the remarks of policies, the provider's record, how it ended.

Keeps op, urn and type of a step, and the paths of properties for which it replaces something; never a property's value: these may be
secret. Pure; called by build.py and by the tests that compare a report with what happened.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet import errors, printable
from fleet.review import record, report
from fleet.review.record import Prediction

# Nine tenths of a log are states that no report uses: the engine writes the kind of an event, and a step's op, before them.
SKIPPED = re.compile(
    rf'\{{"sequence":\d+,"timestamp":\d+,"(?:resOutputsEvent"|resourcePreEvent":\{{"metadata":\{{"op":"(?:{"|".join(report.UNCHANGED)})")'
)
SUCCEEDED = "succeeded"
MANDATORY = "mandatory"


@dataclass
class Preview:
    """What one preview's events say; `result` is "" where it was interrupted."""

    operations: dict[str, report.Operation] = field(default_factory=dict)
    remarks: dict[tuple[str, str], report.Remark] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    prediction: Prediction | None = None
    unchanged: int = 0
    result: str = ""


def read(lines: Iterable[str]) -> Preview:
    """Return what the events say. Raises OutputMalformed for a line that is no event."""
    preview = Preview()
    for line in lines:
        if SKIPPED.match(line):
            continue
        event = _event(line)
        if "resourcePreEvent" in event:
            _add_step(preview, event["resourcePreEvent"]["metadata"])
        elif "policyEvent" in event:
            _add_remark(preview, event["policyEvent"])
        elif "diagnosticEvent" in event:
            _add_diagnostic(preview, event["diagnosticEvent"])
        elif "summaryEvent" in event:
            summary = event["summaryEvent"]
            preview.result = str(summary.get("result") or SUCCEEDED)
            preview.unchanged = int((summary.get("resourceChanges") or {}).get("same") or 0)
    return preview


def _event(line: str) -> Mapping[str, Any]:
    try:
        event: Mapping[str, Any] = json.loads(line)
    except ValueError:
        seen = printable.short(line)
        raise errors.OutputMalformed(
            doing="read the Pulumi engine's events", seen=seen, wanted="one event of JSON a line"
        ) from None
    return event


def _add_step(preview: Preview, metadata: Mapping[str, Any]) -> None:
    """Add a step; of the steps of one replacement the one with its causes stays."""
    op, urn = str(metadata["op"]), str(metadata["urn"])
    if op in report.UNCHANGED:
        return
    causes = tuple(sorted(_causes(metadata))) if op in report.REPLACES else ()
    earlier = preview.operations.get(urn)
    if op in report.REPLACES:
        op, causes = "replace", causes or (earlier.causes if earlier else ())
    preview.operations[urn] = report.Operation(urn, str(metadata["type"]), op, causes)


def _causes(metadata: Mapping[str, Any]) -> Iterator[str]:
    detailed = metadata.get("detailedDiff") or {}
    for path, difference in detailed.items():
        if str(difference.get("diffKind")).endswith("-replace"):
            yield printable.short(str(path), 200)
    if not detailed:
        yield from (printable.short(str(path), 200) for path in metadata.get("keys") or ())


def _add_remark(preview: Preview, event: Mapping[str, Any]) -> None:
    """Add a policy's violation: its own message, without the policy's first line."""
    rule, message = str(event["policyName"]), printable.plain(str(event["message"]))
    words = message.partition("\n")[2].strip() or message.strip()
    about = str(event.get("resourceUrn") or "").rpartition("::")[2]
    earlier = preview.remarks.get((rule, words))
    names = tuple(dict.fromkeys([*(earlier.about if earlier else ()), *([about] if about else [])]))
    mandatory = event.get("enforcementLevel") == MANDATORY
    preview.remarks[rule, words] = report.Remark(rule, words, mandatory, names)


def _add_diagnostic(preview: Preview, event: Mapping[str, Any]) -> None:
    """Read the provider's record, and errors beside a resource; an error without one may quote anything, so only its fact counts."""
    message = str(event["message"])
    if event.get("severity") == "debug" and message.startswith(record.RECORD):
        preview.prediction = Prediction.of(json.loads(message.removeprefix(record.RECORD)), "the provider's record")
    elif event.get("severity") == "error" and event.get("urn"):
        words = printable.plain(message).strip()[:2000]
        if words not in preview.failures:
            preview.failures.append(words)
