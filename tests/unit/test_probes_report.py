"""The four reports of the same results, against golden text: two right answers, a box beside its bottle, a refusal that was none."""

import base64
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from fleet.probes import case as cases
from fleet.probes import report
from fleet.probes.answer import Answer
from fleet.probes.case import Case
from fleet.probes.runner import ProbeResult

GOLDEN = Path(__file__).parent / "golden" / "probes"
SCENE = {"size": [400, 200], "bottles": [{"colour": "red", "box": [40, 20, 80, 120]}]}
BOX = Case("red-bottle", "It finds a bottle.", "Where is the <red> bottle?", [{"box": "red"}], picture=SCENE)
KEY = Case("refuses-no-key", "No key, no answer.", "Hello!", [{"status": [401]}], authorized=False)
THINKS = Case("reasoning", "It thinks.", "Hm?", [{"reasoning_apart": True}], advisory=True)
LONG = Case("glm-1/glm-0 " + "a-name-that-is-longer-than-its-card", "It breaks.", "Hello!", [{"words": ["hello"]}])
RESULTS = [
    ProbeResult(BOX, Answer(200, "[[100,100,200,600]]", "Left of all."), [], 12.345),
    ProbeResult(BOX, Answer(200, "At [[300,100,400,600]] & so on"), ["box beside it", "2 < 3"], 0.5),
    ProbeResult(KEY, Answer(401, text='{"error": "Unauthorized"}'), [], 0.01),
    ProbeResult(KEY, Answer(200, "Hello!\nHow are you?"), ["status 200; wanted 401"], 0.02),
    ProbeResult(LONG, Answer(200, "hello"), [], 1, (Answer(200, "Good day"), ["does not say ['hello']", "and more"])),
    ProbeResult(
        LONG, Answer(200, "adieu"), ["does not say ['hello']"], 1, (Answer(200, "bye"), ["does not say ['hello']"])
    ),
    ProbeResult(THINKS, Answer(200, "yes"), ["no reasoning; wanted some in its own field"], 0.3),
]
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


def test_the_table_has_a_line_a_probe_and_tells_failures_with_the_answer() -> None:
    assert report.table(RESULTS) + "\n" == (GOLDEN / "table.txt").read_text()


def test_a_table_of_nothing_says_so() -> None:
    assert report.table([]) == "0 of 0 probes passed"


def test_a_long_answer_does_not_fill_the_table() -> None:
    lines = report.table([ProbeResult(KEY, Answer(200, "blah " * 1000), ["status 200; wanted 401"], 1)]).splitlines()
    assert max(map(len, lines)) < 330


def test_json_has_question_truth_and_answer_of_each() -> None:
    assert report.to_json(RESULTS) + "\n" == (GOLDEN / "verdicts.json").read_text()
    assert [row["passed"] for row in json.loads(report.to_json(RESULTS))] == [
        True,
        False,
        True,
        False,
        True,
        False,
        False,
    ]


def test_a_probe_that_only_advises_is_counted_apart() -> None:
    assert report.summary(RESULTS) == "3 of 6 probes passed; advisory: 0 of 1"
    assert report.summary(RESULTS[:2]) == "1 of 2 probes passed"


def test_a_thousand_boxes_do_not_fill_the_page() -> None:
    page = report.to_html([ProbeResult(BOX, Answer(200, "[1,2,3,4]" * 1000), ["1000 boxes; wanted one"], 1)])
    assert page.count('class="answered"') == report.DRAWN


def test_junit_counts_the_failures_and_holds_the_answers() -> None:
    assert report.to_junit(RESULTS) == (GOLDEN / "junit.xml").read_text()


@pytest.mark.parametrize("babble", ["\x1b[31m\x00 \x08", "a\ufffeb", "\ud800", "\x9b31m", "\u202eevil"])
def test_whatever_a_model_babbles_every_report_can_be_written_and_read(babble: str, tmp_path: Path) -> None:
    results = [ProbeResult(KEY, Answer(200, f"<&> {babble} end"), [f"says {babble!r}"], 1)]
    made = {"junit": report.to_junit(results), "html": report.to_html(results), "json": report.to_json(results)}
    for name, text in {**made, "table": report.table(results)}.items():
        (tmp_path / name).write_text(text)
    failure = ElementTree.parse(tmp_path / "junit").find("testcase/failure")
    assert failure is not None and failure.text
    assert failure.text.startswith("answered: <&> ") and failure.text.endswith(" end")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", "".join(made.values()))


def test_the_page_is_as_it_was() -> None:
    page = PICTURE.sub("data:image/png;base64,…", report.to_html(RESULTS))
    assert page == (GOLDEN / "page.html").read_text()


def test_the_page_needs_nothing_beside_it() -> None:
    page = report.to_html(RESULTS)
    named = re.findall(r"""(?:href|src|url|@import|action|srcset)\s*[=(]?\s*["']?([^"'\s)>]+)""", page)
    assert [name for name in named if not name.startswith("data:")] == []
    assert not re.search(r"<(?:script|link|iframe|base)\b|://", page)


def test_the_page_draws_the_true_and_the_answered_box_in_pixels_on_the_picture() -> None:
    figures = re.findall(r"<svg.*?</svg>", report.to_html(RESULTS), re.DOTALL)
    assert len(figures) == 2
    right, wrong = (dict(re.findall(r'<rect class="(\w+)" (.*?)/>', figure)) for figure in figures)
    bottle = 'x="40.0" y="20.0" width="40.0" height="100.0"'
    assert right == {"true": bottle, "answered": bottle}
    assert wrong == {"true": bottle, "answered": 'x="120.0" y="20.0" width="40.0" height="100.0"'}


def test_the_picture_in_the_page_is_the_one_that_was_asked_about() -> None:
    found = PICTURE.search(report.to_html(RESULTS))
    assert found
    image = Image.open(io.BytesIO(base64.b64decode(found[1])))
    assert image.size == (400, 200)
    assert image.getpixel((60, 90)) == (205, 30, 30)


def test_a_photograph_is_on_the_page_as_it_was_asked_about() -> None:
    scene = {"file": str(cases.MEDIA / "coffee.jpg"), "objects": [{"label": "cup", "box": [138, 14, 327, 246]}]}
    asked = Case("photograph", "It finds a cup.", "Where is the cup?", [{"box": "cup"}], picture=scene)
    page = report.to_html([ProbeResult(asked, Answer(200, "[[288,44,681,769]]"), [], 1)])
    assert 'viewBox="0 0 480 320"' in page and "data:image/jpeg;base64," in page
    assert 'class="true" x="138.0" y="14.0" width="189.0" height="232.0"' in page


def test_markup_in_an_answer_stays_text() -> None:
    page = report.to_html([ProbeResult(KEY, Answer(200, "<script>alert(1)</script> $cards"), ["says <b>"], 1)])
    assert "<script>" not in page and "<b>" not in page.replace("<b>Magenta</b>", "")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; $cards" in page
