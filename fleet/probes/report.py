"""Verdicts as text, JSON, JUnit XML, and a page that draws the answered box beside the true one.

Pure: verdicts in, text out; the page needs Pillow for its pictures. Called by fleet.cli and fleet.provider.
"""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from xml.etree import ElementTree as xml

from fleet.probes import answer as answers
from fleet.probes import checks, picture
from fleet.probes.runner import Verdict

PAGE = Path(__file__).with_name("report.html")


def table(verdicts: Sequence[Verdict]) -> str:
    """Return a line a probe, and what was answered where it failed."""
    width = max((len(one.case.name) for one in verdicts), default=0)
    lines = []
    for one in verdicts:
        lines.append(f"{'ok  ' if one.passed else 'FAIL'}  {one.case.name.ljust(width)}  {one.seconds:6.1f} s")
        if not one.passed:
            lines += [f"      {wrong}" for wrong in one.wrong] + [f"      answered: {one.answer.shown[:300]!r}"]
    return "\n".join([*lines, f"{sum(one.passed for one in verdicts)} of {len(verdicts)} probes passed"])


def to_json(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as a JSON list."""
    rows = [
        {
            "case": one.case.name,
            "about": one.case.about,
            "passed": one.passed,
            "wrong": list(one.wrong),
            "seconds": round(one.seconds, 2),
            "status": one.answer.status,
            "answered": one.answer.shown,
            "reasoning": one.answer.reasoning,
            "boxes": answers.boxes(one.answer),
            "truth": [{"label": label, "box": box} for label, box in checks.truth(one.case)],
        }
        for one in verdicts
    ]
    return json.dumps(rows, indent=1)


def to_junit(verdicts: Sequence[Verdict]) -> str:
    """Return a JUnit report with one test case a probe."""
    failed = [one for one in verdicts if not one.passed]
    total = {
        "tests": str(len(verdicts)),
        "failures": str(len(failed)),
        "time": f"{sum(v.seconds for v in verdicts):.2f}",
    }
    suite = xml.Element("testsuite", {"name": "probes", **total})
    for one in verdicts:
        case = xml.SubElement(suite, "testcase", name=one.case.name, classname="probes", time=f"{one.seconds:.2f}")
        if not one.passed:
            failure = xml.SubElement(case, "failure", message="; ".join(one.wrong))
            failure.text = f"answered: {one.answer.shown}"
    xml.indent(suite)
    return xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def to_html(verdicts: Sequence[Verdict]) -> str:
    """Return one page that needs nothing beside it: each picture with the true and the answered boxes, and the verdict."""
    passed = sum(one.passed for one in verdicts)
    cards = "\n".join(_card(one) for one in verdicts)
    return Template(PAGE.read_text()).substitute(passed=passed, total=len(verdicts), cards=cards)


def _card(one: Verdict) -> str:
    state = "passed" if one.passed else "failed"
    wrong = "".join(f"<li>{html.escape(text)}</li>" for text in one.wrong)
    return f"""<article class="{state}">
<h2>{html.escape(one.case.name)} <span class="verdict">{state}</span></h2>
<p>{html.escape(one.case.about)}</p>
{_figure(one)}
<dl><dt>asked</dt><dd>{html.escape(one.case.question)}</dd>
<dt>answered</dt><dd>{html.escape(one.answer.shown[:2000])}</dd></dl>
{f"<ul>{wrong}</ul>" if wrong else ""}
</article>"""


def _figure(one: Verdict) -> str:
    if one.case.picture is None:
        return ""
    width, height = one.case.picture["size"]
    data = base64.b64encode(picture.png(one.case.picture)).decode()
    true = "".join(_rect(box, width, height, "true") for _, box in checks.truth(one.case))
    answered = "".join(_rect(box, width, height, "answered") for box in answers.boxes(one.answer))
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="picture with boxes">'
        f'<image href="data:image/png;base64,{data}" width="{width}" height="{height}"/>{true}{answered}</svg></figure>'
    )


def _rect(box: picture.Box, width: int, height: int, kind: str) -> str:
    left, top, right, bottom = (
        edge * size / picture.GRID for edge, size in zip(box, (width, height, width, height), strict=True)
    )
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{max(0.0, right - left):.1f}"'
        f' height="{max(0.0, bottom - top):.1f}"/>'
    )
