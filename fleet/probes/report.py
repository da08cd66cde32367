"""Write the results of probes as a table, JSON, JUnit XML, and a page that draws the answered box beside the true one.

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
from fleet.probes.runner import ProbeResult

PAGE = Path(__file__).with_name("report.html")
DRAWN = 50  # answered boxes on a picture, at most: a model that babbles must not fill the page


def table(results: Sequence[ProbeResult]) -> str:
    """Return one line per probe; a wrong answer, also an earlier one, follows with its faults."""
    width = max((len(result.case.name) for result in results), default=0)
    lines = []
    for result in results:
        state = "ok  " if result.passed else "FAIL" if result.gates else "warn"
        lines.append(f"{state}  {result.case.name.ljust(width)}  {result.seconds:6.1f} s{_note(result)}")
        if result.earlier:
            lines += _answered("      at first: ", *result.earlier)
        if not result.passed:
            lines += _answered("      asked once more: " if result.earlier else "      ", result.answer, result.wrong)
    return "\n".join([*lines, summary(results)])


def summary(results: Sequence[ProbeResult]) -> str:
    """Return in one line how many probes passed, gating and advisory ones apart."""
    gating, advisory = ([result for result in results if result.gates is gates] for gates in (True, False))
    line = f"{sum(result.passed for result in gating)} of {len(gating)} probes passed"
    return line + (f"; advisory: {sum(result.passed for result in advisory)} of {len(advisory)}" if advisory else "")


def to_json(results: Sequence[ProbeResult]) -> str:
    """Return the results as a JSON list."""
    rows = [
        {
            "case": result.case.name,
            "about": result.case.about,
            "passed": result.passed,
            "advisory": result.case.advisory,
            "wrong": list(result.wrong),
            "seconds": round(result.seconds, 2),
            "status": result.answer.status,
            "answered": result.answer.shown,
            "earlier": None if result.earlier is None else _earlier(*result.earlier),
            "reasoning": result.answer.reasoning,
            "boxes": answers.boxes(result.answer)[:DRAWN],
            "truth": [{"label": label, "box": box} for label, box in checks.truth(result.case)],
        }
        for result in results
    ]
    return json.dumps(rows, indent=1)


def to_junit(results: Sequence[ProbeResult]) -> str:
    """Return a JUnit report with one test case per probe; a failed advisory probe counts as skipped."""
    total = {
        "tests": str(len(results)),
        "failures": str(sum(result.refused for result in results)),
        "skipped": str(sum(not result.passed and not result.refused for result in results)),
        "time": f"{sum(result.seconds for result in results):.2f}",
    }
    suite = xml.Element("testsuite", {"name": "probes", **total})
    for result in results:
        case = xml.SubElement(
            suite, "testcase", name=result.case.name, classname="probes", time=f"{result.seconds:.2f}"
        )
        if not result.passed:
            failure = xml.SubElement(case, "failure" if result.gates else "skipped", message="; ".join(result.wrong))
            failure.text = f"answered: {result.answer.shown}"
        if result.earlier:
            answer, wrong = result.earlier
            xml.SubElement(case, "system-out").text = f"at first: {'; '.join(wrong)}; answered: {answer.shown}"
    xml.indent(suite)
    return xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def to_html(results: Sequence[ProbeResult]) -> str:
    """Return one self-contained page: each picture with the true and the answered boxes, and whether it passed."""
    cards = "\n".join(_card(result) for result in results)
    return Template(PAGE.read_text()).substitute(summary=summary(results), cards=cards)


def _note(result: ProbeResult) -> str:
    """Return the notes after the seconds of a probe in the table."""
    notes = [*(["advisory"] if result.case.advisory else []), *(["asked twice"] if result.earlier else [])]
    return f"  ({', '.join(notes)})" if notes else ""


def _answered(lead: str, answer: Answer, wrong: Sequence[str]) -> list[str]:
    indent = " " * 6 if len(lead) == 6 else " " * 8
    first, *others = wrong
    return [f"{lead}{first}", *(f"{indent}{other}" for other in others), f"{indent}answered: {answer.shown[:300]!r}"]


def _earlier(answer: Answer, wrong: Sequence[str]) -> dict[str, Any]:
    return {"wrong": list(wrong), "status": answer.status, "answered": answer.shown}


def _card(result: ProbeResult) -> str:
    state = "passed" if result.passed else "failed" if result.gates else "warned"
    title = "asked twice" if result.earlier else "asked"
    first = ""
    if result.earlier:
        answer, wrong = result.earlier
        first = f"<dt>at first</dt><dd>{html.escape(answer.shown[:2000])}</dd></dl>{_listed(wrong)}<dl>"
    return f"""<article class="{state}">
<h2><span>{html.escape(result.case.name)}</span> <span class="verdict">{state}</span></h2>
<p>{html.escape(result.case.about)}</p>
{_figure(result)}
<dl><dt>{title}</dt><dd>{html.escape(result.case.question)}</dd>
{first}<dt>answered</dt><dd>{html.escape(result.answer.shown[:2000])}</dd></dl>
{_listed(result.wrong)}
</article>"""


def _listed(wrong: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in wrong)
    return f"<ul>{items}</ul>" if items else ""


def _figure(result: ProbeResult) -> str:
    if result.case.picture is None:
        return ""
    width, height = picture.size(result.case.picture)
    kind, content = picture.encoded(result.case.picture)
    data = base64.b64encode(content).decode()
    true = "".join(_rect(box, width, height, "true") for _, box in checks.truth(result.case))
    answered = "".join(_rect(box, width, height, "answered") for box in answers.boxes(result.answer)[:DRAWN])
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
