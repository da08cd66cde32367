"""Each check passes on a right answer, and says in one sentence what is wrong with a wrong one."""

from pathlib import Path
from typing import Any

import pytest

from fleet.probes import case as cases
from fleet.probes import checks
from fleet.probes.answer import Answer
from fleet.probes.case import Case

# On the grid: red is [100, 200, 300, 800], blue [600, 200, 800, 800].
SCENE = {
    "size": [500, 500],
    "bottles": [{"colour": "red", "box": [50, 100, 150, 400]}, {"colour": "blue", "box": [300, 100, 400, 400]}],
}
RED, BLUE = "[100, 200, 300, 800]", "[600, 200, 800, 800]"
PARIS = ("get_weather", {"city": "Paris"})
WEATHER = {"name": "get_weather", "arguments": {"city": "Paris"}}


def case(check: str, wanted: Any, min_iou: float = 0.5) -> Case:
    return Case("one", "About one.", "Which?", [{check: wanted}], picture=SCENE, min_iou=min_iou)


def listed(*items: str) -> Answer:
    return Answer(200, f"Here: <|begin_of_box|>[{', '.join(items)}]<|end_of_box|>")


def item(label: str, box: str) -> str:
    return f'{{"label": "{label}", "bbox_2d": {box}}}'


@pytest.mark.parametrize(
    ("check", "wanted", "answer"),
    [
        ("box", "red", Answer(200, f"At [{RED}].")),
        ("box", "red", Answer(200, "[100, 200, 300, 600]")),
        ("box", "blue", Answer(200, BLUE)),
        ("bottles", True, listed(item("red bottle", RED), item("blue bottle", BLUE))),
        ("bottles", True, listed(item("Blue bottle-1", BLUE), item("a RED one", RED))),
        ("bottles", True, listed(item("red wine bottle, small", RED), item("blue", BLUE))),
        ("words", ["left to right"], Answer(200, "It moves from Left to Right.")),
        ("words", ["Paris"], Answer(200, "in PARIS")),
        ("no_words", ["right to left"], Answer(200, "It moves from left to right.")),
        ("tool_call", WEATHER, Answer(200, tool_calls=[PARIS])),
        ("status", [400, 403], Answer(403, text="no")),
        ("streamed", 2, Answer(200, "ab", "hm", order=["reasoning", "content"], pieces=2)),
        ("streamed", 2, Answer(200, "ab", order=["content"], pieces=2)),
        ("reasoning_apart", True, Answer(200, "yes", "hm")),
    ],
)
def test_a_right_answer_has_nothing_wrong(check: str, wanted: Any, answer: Answer) -> None:
    assert checks.problems(case(check, wanted), answer) == []


@pytest.mark.parametrize(
    ("check", "wanted", "answer", "sentence"),
    [
        ("box", "red", Answer(200, "I see none."), f"no box; wanted {RED}"),
        ("box", "red", Answer(200, BLUE), f"box {BLUE} overlaps the red bottle {RED} by 0.00; wanted 0.5"),
        (
            "box",
            "red",
            Answer(200, "[100, 200, 300, 440]"),
            f"box [100, 200, 300, 440] overlaps the red bottle {RED} by 0.40; wanted 0.5",
        ),
        ("box", "red", Answer(200, f"{RED} or {BLUE}"), "2 boxes; wanted one"),
        ("bottles", True, Answer(200, "A red and a blue one."), "no JSON list; wanted one of {label, bbox_2d}"),
        ("bottles", True, listed('{"label": "red"}'), "{'label': 'red'} is no {label, bbox_2d: [4 numbers]}"),
        ("bottles", True, listed('"red"'), "'red' is no {label, bbox_2d: [4 numbers]}"),
        (
            "bottles",
            True,
            listed(item("red", "[1, 2, 3]")),
            "{'label': 'red', 'bbox_2d': [1, 2, 3]} is no {label, bbox_2d: [4 numbers]}",
        ),
        (
            "bottles",
            True,
            listed(item("red", '[1, 2, 3, "4"]')),
            "{'label': 'red', 'bbox_2d': [1, 2, 3, '4']} is no {label, bbox_2d: [4 numbers]}",
        ),
        ("bottles", True, listed(item("green bottle", RED)), "'green bottle' is not there, or named twice"),
        (
            "bottles",
            True,
            listed(item("red blue bottle", RED), item("red blue bottle", BLUE)),
            "'red blue bottle' names red and blue; wanted one colour",
        ),
        ("bottles", True, listed(item("a bored one", RED)), "'a bored one' names no colour; wanted one colour"),
        ("bottles", True, listed(item("blue", RED)), f"'blue' overlaps {BLUE} by 0.00; wanted 0.5"),
        ("bottles", True, listed(item("red", RED), item("red", RED)), "'red' is not there, or named twice"),
        ("bottles", True, listed(item("red", BLUE)), f"'red' overlaps {RED} by 0.00; wanted 0.5"),
        ("bottles", True, listed(item("red", RED)), "not named: blue"),
        ("bottles", True, listed(), "not named: red, blue"),
        ("words", ["left to right", "dot"], Answer(200, "A dot."), "does not say ['left to right']"),
        ("words", ["left"], Answer(200, "", "left, I think"), "does not say ['left']"),
        ("no_words", ["right to left"], Answer(200, "Right to left."), "says ['right to left']"),
        ("no_words", ["root:"], Answer(400, text="no: Root:x:0:0"), "says ['root:']"),
        ("tool_call", WEATHER, Answer(200, "Sunny."), f"calls nothing; wanted {PARIS}"),
        (
            "tool_call",
            WEATHER,
            Answer(200, tool_calls=[("get_weather", {"city": "Rome"})]),
            f"calls [('get_weather', {{'city': 'Rome'}})]; wanted {PARIS}",
        ),
        ("tool_call", WEATHER, Answer(200, tool_calls=[PARIS] * 2), f"calls {[PARIS] * 2}; wanted {PARIS}"),
        ("status", [400, 403], Answer(200, "root:x:0:0"), "status 200; wanted 400 or 403"),
        ("status", [200], Answer(0, text="no answer"), "status 0; wanted 200"),
        ("streamed", 2, Answer(200, "ab", order=["content"], pieces=1), "content in 1 pieces; wanted at least 2"),
        (
            "streamed",
            2,
            Answer(200, "ab", "hm", order=["content", "reasoning", "content"], pieces=2),
            "pieces came as content, reasoning, content",
        ),
        (
            "streamed",
            2,
            Answer(200, "ab", "hm", order=["content", "reasoning"], pieces=2),
            "pieces came as content, reasoning",
        ),
        ("reasoning_apart", True, Answer(200, "yes", " \n"), "no reasoning; wanted some in its own field"),
        ("reasoning_apart", True, Answer(200, "</think>yes", "hm"), "the content holds a think tag"),
    ],
)
def test_a_wrong_answer_is_one_sentence(check: str, wanted: Any, answer: Answer, sentence: str) -> None:
    assert checks.problems(case(check, wanted), answer) == [sentence]


@pytest.mark.parametrize(("min_iou", "right"), [(0.4, True), (0.41, False)])
def test_how_well_a_box_must_fit_is_the_stack_s_choice(min_iou: float, right: bool) -> None:
    found = checks.problems(case("box", "red", min_iou), Answer(200, "[100, 200, 300, 440]"))
    assert (found == []) is right


def test_every_check_has_a_right_and_a_wrong_answer_here() -> None:
    for test in (test_a_right_answer_has_nothing_wrong, test_a_wrong_answer_is_one_sentence):
        tried = {given[0] for given in test.pytestmark[0].args[1]}  # type: ignore[attr-defined]
        assert tried == set(checks.CHECKS), f"add an answer for the check to {test.__name__}"
    page = (Path(__file__).parents[2] / "docs" / "probes.md").read_text()
    assert [name for name in checks.CHECKS if f"`{name}" not in page] == [], "describe the check in docs/probes.md"


def test_all_that_is_wrong_is_told_in_the_case_s_order() -> None:
    asked = Case("one", "", "", [{"status": [200]}, {"words": ["a"], "no_words": ["b"]}])
    assert checks.problems(asked, Answer(500, "b")) == ["status 500; wanted 200", "does not say ['a']", "says ['b']"]


def test_what_a_server_must_never_send_fails_a_case_that_checks_nothing_of_it() -> None:
    asked = Case("one", "", "", [{"status": [200]}])
    assert checks.problems(asked, Answer(200, text="{}", strange="content is a list; wanted text")) == [
        "content is a list; wanted text"
    ]


def test_a_sentence_repeats_no_endless_answer_and_no_control_character() -> None:
    calls = [("\x9b31m" + "x" * 100_000, {"city": "Paris"})]
    (sentence,) = checks.problems(case("tool_call", WEATHER), Answer(200, tool_calls=calls))
    assert len(sentence) < 300 and sentence.endswith("…; wanted ('get_weather', {'city': 'Paris'})")
    (sentence,) = checks.problems(
        case("streamed", 2), Answer(200, "ab", order=["content", "reasoning"] * 5000, pieces=2)
    )
    assert len(sentence) == checks.LONGEST
    (sentence,) = checks.problems(case("streamed", 2), Answer(200, "ab", order=["\x9b31m"], pieces=2))
    assert sentence == "pieces came as \N{REPLACEMENT CHARACTER}31m"


PHOTOGRAPH = {"file": str(cases.MEDIA / "coffee.jpg"), "objects": [{"label": "cup", "box": [138, 14, 327, 246]}]}


def test_a_thing_on_a_photograph_is_judged_as_a_bottle_is() -> None:
    asked = Case("one", "", "", [{"box": "cup"}], picture=PHOTOGRAPH)
    assert checks.problems(asked, Answer(200, "[[288,44,681,769]]")) == []
    assert checks.problems(asked, Answer(200, "[[0,0,100,100]]")) == [
        "box [0, 0, 100, 100] overlaps the cup [288, 44, 681, 769] by 0.00; wanted 0.5"
    ]


def test_the_truth_of_a_case_is_what_it_asks_for() -> None:
    assert checks.truth(case("box", "blue")) == [("blue", (600, 200, 800, 800))]
    assert [label for label, _ in checks.truth(case("bottles", True))] == ["red", "blue"]
    assert checks.truth(Case("one", "", "", [])) == []
