"""The report of a change as a reviewer reads it: tests/unit/golden/review has the texts."""

import html.parser
import json
import re
from pathlib import Path

import pytest

from fleet.cli import review
from fleet.review import markdown, outline, page, report
from tests.support import review_reports
from tests.support.review_reports import REPORTS

GOLDEN = Path(__file__).parent / "golden" / "review"


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
def test_a_report_reads_as_its_golden_text(name: str, form: str) -> None:
    suffix = {"terminal": "txt", "markdown": "md", "html": "html"}[form]
    assert review.rendered(REPORTS[name](), form, []) == (GOLDEN / f"{name}.{suffix}").read_text()


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("nothing-to-do", report.NOTHING),
        ("a-flag-on-twelve-nodes", report.WINDOW),
        ("a-driver-with-reboots-and-a-replacement", report.DESTRUCTIVE),
        ("destructive", report.DESTRUCTIVE),
        ("refused", report.REFUSED),
    ],
)
def test_the_first_words_are_the_verdict(name: str, verdict: str) -> None:
    made = REPORTS[name]()
    assert made.verdict == verdict
    assert outline.outline(made).title.startswith(f"prod: {verdict}")


def test_an_operation_that_this_release_does_not_know_needs_a_window() -> None:
    made = report.Report(
        "prod",
        review_reports.nothing().prediction,
        (review_reports.step("eat", "Node", "prod-1"),),
        review_reports.EVIDENCE,
    )
    assert made.verdict == report.WINDOW


def test_a_report_of_500_nodes_that_differ_shows_25_lines_and_is_a_comment_of_60000_characters() -> None:
    made = review_reports.everything_on_500_nodes()
    lines = outline.outline(made, [f"moved {number}" for number in range(300)])
    text = markdown.render(lines, "marker")
    seen = text.partition("<details>")[0].removeprefix("<!-- marker -->\n").rstrip().splitlines()
    assert len(seen) + 1 <= outline.VISIBLE, "\n".join(seen)
    assert max(map(len, seen)) < 1000
    assert len(text) <= outline.LIMIT and len(page.render(lines)) <= outline.LIMIT
    assert text.rstrip().endswith("</details>") and re.search(r"\.\.\. and \d+ more lines", text)


def test_text_of_a_node_stays_text_in_each_form() -> None:
    lines = outline.outline(review_reports.everything_on_500_nodes())
    tags: set[str] = set()

    class Tags(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.add(tag)

    Tags().feed(page.render(lines))
    assert "img" not in tags
    text = markdown.render(lines)
    for block in re.split(r"(?m)^`{3,}(?:text)?$", text)[::2]:
        outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", block)
        assert "<img" not in outside and "@all" not in outside and "javascript:" not in outside


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_read_back_is_the_same(name: str) -> None:
    made = REPORTS[name]()
    assert report.read(review.dumped(made), "a file") == made


def test_the_time_of_earlier_runs_is_no_part_of_the_digest_of_effects() -> None:
    made = REPORTS["a-flag-on-twelve-nodes"]()
    content = json.loads(review.dumped(made))
    content["prediction"]["changes"][0]["seconds"] = 1.5
    assert report.read(json.dumps(content), "a file").effects_digest == made.effects_digest
