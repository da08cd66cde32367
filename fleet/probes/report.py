"""Write verdicts as a table, JSON, JUnit XML, and a page that draws the answered box beside the true one.

Pure; the page needs Pillow for its pictures. Called by fleet.cli.probe and fleet.provider.
"""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any
from xml.etree import ElementTree as xml

from fleet.probes import answer as answers
from fleet.probes import checks, picture
from fleet.probes.answer import Answer
from fleet.probes.runner import Verdict

PAGE = Path(__file__).with_name("report.html")
DRAWN = 50  # answered boxes on a picture, at most: a model that babbles must not fill the page


def table(verdicts: Sequence[Verdict]) -> str:
    """Return one line per probe; a wrong answer, also an earlier one, follows with its faults."""
    width = max((len(verdict.case.name) for verdict in verdicts), default=0)
    lines = []
    for verdict in verdicts:
        state = "ok  " if verdict.passed else "FAIL" if verdict.gates else "warn"
        lines.append(f"{state}  {verdict.case.name.ljust(width)}  {verdict.seconds:6.1f} s{_note(verdict)}")
        if verdict.earlier:
            lines += _answered("      at first: ", *verdict.earlier)
        if not verdict.passed:
            lines += _answered(
                "      asked once more: " if verdict.earlier else "      ", verdict.answer, verdict.wrong
            )
    return "\n".join([*lines, summary(verdicts)])


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return in one line how many probes passed, gating and advisory ones apart."""
    gating, advisory = ([verdict for verdict in verdicts if verdict.gates is gates] for gates in (True, False))
    line = f"{sum(verdict.passed for verdict in gating)} of {len(gating)} probes passed"
    return line + (f"; advisory: {sum(verdict.passed for verdict in advisory)} of {len(advisory)}" if advisory else "")


def to_json(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as a JSON list."""
    rows = [
        {
            "case": verdict.case.name,
            "about": verdict.case.about,
            "passed": verdict.passed,
            "advisory": verdict.case.advisory,
            "wrong": list(verdict.wrong),
            "seconds": round(verdict.seconds, 2),
            "status": verdict.answer.status,
            "answered": verdict.answer.shown,
            "earlier": None if verdict.earlier is None else _earlier(*verdict.earlier),
            "reasoning": verdict.answer.reasoning,
            "boxes": answers.boxes(verdict.answer)[:DRAWN],
            "truth": [{"label": label, "box": box} for label, box in checks.truth(verdict.case)],
        }
        for verdict in verdicts
    ]
    return json.dumps(rows, indent=1)


def to_junit(verdicts: Sequence[Verdict]) -> str:
    """Return a JUnit report with one test case per probe; a failed advisory probe counts as skipped."""
    total = {
        "tests": str(len(verdicts)),
        "failures": str(sum(verdict.refused for verdict in verdicts)),
        "skipped": str(sum(not verdict.passed and not verdict.refused for verdict in verdicts)),
        "time": f"{sum(v.seconds for v in verdicts):.2f}",
    }
    suite = xml.Element("testsuite", {"name": "probes", **total})
    for verdict in verdicts:
        case = xml.SubElement(
            suite, "testcase", name=verdict.case.name, classname="probes", time=f"{verdict.seconds:.2f}"
        )
        if not verdict.passed:
            failure = xml.SubElement(case, "failure" if verdict.gates else "skipped", message="; ".join(verdict.wrong))
            failure.text = f"answered: {verdict.answer.shown}"
        if verdict.earlier:
            answer, wrong = verdict.earlier
            xml.SubElement(case, "system-out").text = f"at first: {'; '.join(wrong)}; answered: {answer.shown}"
    xml.indent(suite)
    return xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def to_html(verdicts: Sequence[Verdict]) -> str:
    """Return one self-contained page: each picture with the true and the answered boxes, and the verdict."""
    cards = "\n".join(_card(verdict) for verdict in verdicts)
    return Template(PAGE.read_text()).substitute(summary=summary(verdicts), cards=cards)


def _note(verdict: Verdict) -> str:
    """Return the notes after the seconds of a probe in the table."""
    notes = [*(["advisory"] if verdict.case.advisory else []), *(["asked twice"] if verdict.earlier else [])]
    return f"  ({', '.join(notes)})" if notes else ""


def _answered(lead: str, answer: Answer, wrong: Sequence[str]) -> list[str]:
    indent = " " * 6 if len(lead) == 6 else " " * 8
    first, *others = wrong
    return [f"{lead}{first}", *(f"{indent}{other}" for other in others), f"{indent}answered: {answer.shown[:300]!r}"]


def _earlier(answer: Answer, wrong: Sequence[str]) -> dict[str, Any]:
    return {"wrong": list(wrong), "status": answer.status, "answered": answer.shown}


def _card(verdict: Verdict) -> str:
    state = "passed" if verdict.passed else "failed" if verdict.gates else "warned"
    title = "asked twice" if verdict.earlier else "asked"
    first = ""
    if verdict.earlier:
        answer, wrong = verdict.earlier
        first = f"<dt>at first</dt><dd>{html.escape(answer.shown[:2000])}</dd></dl>{_listed(wrong)}<dl>"
    return f"""<article class="{state}">
<h2><span>{html.escape(verdict.case.name)}</span> <span class="verdict">{state}</span></h2>
<p>{html.escape(verdict.case.about)}</p>
{_figure(verdict)}
<dl><dt>{title}</dt><dd>{html.escape(verdict.case.question)}</dd>
{first}<dt>answered</dt><dd>{html.escape(verdict.answer.shown[:2000])}</dd></dl>
{_listed(verdict.wrong)}
</article>"""


def _listed(wrong: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in wrong)
    return f"<ul>{items}</ul>" if items else ""


def _figure(verdict: Verdict) -> str:
    if verdict.case.picture is None:
        return ""
    width, height = picture.size(verdict.case.picture)
    kind, content = picture.encoded(verdict.case.picture)
    data = base64.b64encode(content).decode()
    true = "".join(_rect(box, width, height, "true") for _, box in checks.truth(verdict.case))
    answered = "".join(_rect(box, width, height, "answered") for box in answers.boxes(verdict.answer)[:DRAWN])
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="picture with boxes">'
        f'<image href="data:{kind};base64,{data}" width="{width}" height="{height}"/>{true}{answered}</svg></figure>'
    )


def _rect(box: picture.Box, width: int, height: int, kind: str) -> str:
    left, top, right, bottom = (
        edge * size / picture.GRID for edge, size in zip(box, (width, height, width, height), strict=True)
    )
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{max(0.0, right - left):.1f}"'
        f' height="{max(0.0, bottom - top):.1f}"/>'
    )
