"""Results of probes as text, JSON, JUnit XML, and a page that draws the answered box beside the true one.

Pure: results in, text out; the page needs Pillow for its pictures. Called by fleet.cli.probe and fleet.provider.
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
from fleet.probes.runner import ProbeResult

PAGE = Path(__file__).with_name("report.html")
DRAWN = 50  # answered boxes on a picture, at most: a model that babbles shall not fill the page


def table(results: Sequence[ProbeResult]) -> str:
    """Return a line a probe, and what was answered where it failed, or failed at first."""
    width = max((len(one.case.name) for one in results), default=0)
    lines = []
    for one in results:
        state = "ok  " if one.passed else "FAIL" if one.gates else "warn"
        lines.append(f"{state}  {one.case.name.ljust(width)}  {one.seconds:6.1f} s{_note(one)}")
        if one.earlier:
            lines += _answered("      at first: ", *one.earlier)
        if not one.passed:
            lines += _answered("      asked once more: " if one.earlier else "      ", one.answer, one.wrong)
    return "\n".join([*lines, summary(results)])


def summary(results: Sequence[ProbeResult]) -> str:
    """Return how many passed, in a line; those that only advise are counted apart."""
    gating, advisory = ([one for one in results if one.gates is gates] for gates in (True, False))
    told = f"{sum(one.passed for one in gating)} of {len(gating)} probes passed"
    return told + (f"; advisory: {sum(one.passed for one in advisory)} of {len(advisory)}" if advisory else "")


def to_json(results: Sequence[ProbeResult]) -> str:
    """Return the results as a JSON list."""
    rows = [
        {
            "case": one.case.name,
            "about": one.case.about,
            "passed": one.passed,
            "advisory": one.case.advisory,
            "wrong": list(one.wrong),
            "seconds": round(one.seconds, 2),
            "status": one.answer.status,
            "answered": one.answer.shown,
            "earlier": None if one.earlier is None else _earlier(*one.earlier),
            "reasoning": one.answer.reasoning,
            "boxes": answers.boxes(one.answer)[:DRAWN],
            "truth": [{"label": label, "box": box} for label, box in checks.truth(one.case)],
        }
        for one in results
    ]
    return json.dumps(rows, indent=1)


def to_junit(results: Sequence[ProbeResult]) -> str:
    """Return a JUnit report with one test case a probe; one that only advises counts as skipped where it failed."""
    total = {
        "tests": str(len(results)),
        "failures": str(sum(one.refused for one in results)),
        "skipped": str(sum(not one.passed and not one.refused for one in results)),
        "time": f"{sum(v.seconds for v in results):.2f}",
    }
    suite = xml.Element("testsuite", {"name": "probes", **total})
    for one in results:
        case = xml.SubElement(suite, "testcase", name=one.case.name, classname="probes", time=f"{one.seconds:.2f}")
        if not one.passed:
            failure = xml.SubElement(case, "failure" if one.gates else "skipped", message="; ".join(one.wrong))
            failure.text = f"answered: {one.answer.shown}"
        if one.earlier:
            answer, wrong = one.earlier
            xml.SubElement(case, "system-out").text = f"at first: {'; '.join(wrong)}; answered: {answer.shown}"
    xml.indent(suite)
    return xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def to_html(results: Sequence[ProbeResult]) -> str:
    """Return one page that needs nothing beside it: each picture with the true and the answered boxes, and whether it passed."""
    cards = "\n".join(_card(one) for one in results)
    return Template(PAGE.read_text()).substitute(summary=summary(results), cards=cards)


def _note(one: ProbeResult) -> str:
    """Return what stands behind the seconds of a probe in the table."""
    notes = [*(["advisory"] if one.case.advisory else []), *(["asked twice"] if one.earlier else [])]
    return f"  ({', '.join(notes)})" if notes else ""


def _answered(lead: str, answer: Answer, wrong: Sequence[str]) -> list[str]:
    indent = " " * 6 if len(lead) == 6 else " " * 8
    first, *others = wrong
    return [f"{lead}{first}", *(f"{indent}{other}" for other in others), f"{indent}answered: {answer.shown[:300]!r}"]


def _earlier(answer: Answer, wrong: Sequence[str]) -> dict[str, Any]:
    return {"wrong": list(wrong), "status": answer.status, "answered": answer.shown}


def _card(one: ProbeResult) -> str:
    state = "passed" if one.passed else "failed" if one.gates else "warned"
    asked = "asked twice" if one.earlier else "asked"
    first = ""
    if one.earlier:
        answer, wrong = one.earlier
        first = f"<dt>at first</dt><dd>{html.escape(answer.shown[:2000])}</dd></dl>{_listed(wrong)}<dl>"
    return f"""<article class="{state}">
<h2><span>{html.escape(one.case.name)}</span> <span class="verdict">{state}</span></h2>
<p>{html.escape(one.case.about)}</p>
{_figure(one)}
<dl><dt>{asked}</dt><dd>{html.escape(one.case.question)}</dd>
{first}<dt>answered</dt><dd>{html.escape(one.answer.shown[:2000])}</dd></dl>
{_listed(one.wrong)}
</article>"""


def _listed(wrong: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in wrong)
    return f"<ul>{items}</ul>" if items else ""


def _figure(one: ProbeResult) -> str:
    if one.case.picture is None:
        return ""
    width, height = picture.size(one.case.picture)
    kind, content = picture.encoded(one.case.picture)
    data = base64.b64encode(content).decode()
    true = "".join(_rect(box, width, height, "true") for _, box in checks.truth(one.case))
    answered = "".join(_rect(box, width, height, "answered") for box in answers.boxes(one.answer)[:DRAWN])
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
