"""What the probes read from a model's answer: answers of the real GLM-4.6V (recorded/) and the forms that it varies."""

import json
from pathlib import Path

import pytest

from fleet.probes import answer as answers
from fleet.probes.answer import Answer
from fleet.probes.picture import Box

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> Answer:
    """Return one recorded answer, read as the runner reads it."""
    return answers.from_body(200, json.loads((RECORDED / f"{name}.json").read_text()))


def test_grounding_gives_the_one_box_between_the_box_tokens() -> None:
    answer = recorded("grounding")
    assert answers.boxes(answer) == [(94.0, 598.0, 177.0, 991.0)]
    assert "<|begin_of_box|>[[94,598,177,991]]<|end_of_box|>" in answer.content


def test_understanding_gives_the_json_list_after_its_sentence() -> None:
    items = answers.json_list(recorded("understanding"))
    assert items and len(items) == 8
    assert items[0] == {"label": "American Shorthair-1", "bbox_2d": [109, 152, 193, 822]}
    assert {frozenset(item) for item in items} == {frozenset(("label", "bbox_2d"))}


def test_video_gives_a_description_without_a_box_or_a_list() -> None:
    answer = recorded("video")
    assert answer.words.startswith("The video presents a dynamic and immersive sequence of a white paper airplane")
    assert answers.boxes(answer) == []
    assert answers.json_list(answer) is None


EACH_RECORDED = pytest.mark.parametrize("name", ["grounding", "understanding", "video"])


@EACH_RECORDED
def test_reasoning_is_apart_from_the_content(name: str) -> None:
    answer = recorded(name)
    assert answer.reasoning and answer.reasoning not in answer.content
    assert answer.tool_calls == []


@EACH_RECORDED
def test_words_have_no_box_token_and_no_white_space_around_them(name: str) -> None:
    words = recorded(name).words
    assert "box|>" not in words
    assert words == words.strip() != ""


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_read_under_the_new_and_the_old_name(field: str) -> None:
    body = {"choices": [{"message": {"content": "yes", field: "because"}}]}
    assert answers.from_body(200, body).reasoning == "because"


@pytest.mark.parametrize(
    ("content", "result"),
    [
        ("<|begin_of_box|>[[94,598,177,991]]<|end_of_box|>", [(94, 598, 177, 991)]),
        ("<|begin_of_box|>[94,598,177,991]<|end_of_box|>", [(94, 598, 177, 991)]),
        ("\n[[ 94 , 598,\n177, 991 ]].", [(94, 598, 177, 991)]),
        ("at [94.5, 598.25, 177, 991]", [(94.5, 598.25, 177, 991)]),
        ("[-3, 0, 177, 991]", [(-3, 0, 177, 991)]),
        ("[[1,2,3,4],[5,6,7,8]]", [(1, 2, 3, 4), (5, 6, 7, 8)]),
        ("[94,598,177]", []),
        ("[94,598,177,991,5]", []),
        ("94,598,177,991", []),
        ("", []),
    ],
)
def test_a_box_is_four_numbers_in_brackets_of_any_layout(content: str, result: list[Box]) -> None:
    assert answers.boxes(Answer(200, content)) == result


@pytest.mark.parametrize(
    ("content", "result"),
    [
        ('<|begin_of_box|>[{"label": "a"}]<|end_of_box|>', [{"label": "a"}]),
        ('```json\n[{"label": "a"}]\n```', [{"label": "a"}]),
        ('[{"label": "<|begin_of_box|>a<|end_of_box|>"}]', [{"label": "a"}]),
        ("[]", []),
        ('[{"label": "a"}', None),
        ('{"label": "a"}', None),
        ("]there is none[", None),
        ("", None),
    ],
)
def test_a_list_is_read_without_the_text_around_it(content: str, result: list[object] | None) -> None:
    assert answers.json_list(Answer(200, content)) == result


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),
        ((0, 0, 10, 10), (20, 20, 30, 30), 0),
        ((5, 5, 5, 5), (5, 5, 5, 5), 0),
        ((10, 10, 0, 0), (0, 0, 10, 10), 0),
    ],
)
def test_overlap_is_shared_area_over_common_area(first: Box, second: Box, overlap: float) -> None:
    assert answers.iou(first, second) == answers.iou(second, first) == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"city": "Paris"}', {"city": "Paris"}),
        ("", {}),
        ("{city", {"not JSON": "{city"}),
        ('["Paris"]', {"not an object": ["Paris"]}),
    ],
)
def test_a_tool_call_is_read_and_shows_what_is_wrong_with_it(arguments: str, read: dict[str, object]) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    body = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
    assert answers.from_body(200, body).tool_calls == [("get_weather", read)]


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (Answer(200, "\n<|begin_of_box|>yes<|end_of_box|>"), "yes"),
        (Answer(200, tool_calls=[("get_weather", {"city": "Paris"})]), 'get_weather({"city": "Paris"})'),
        (Answer(200, reasoning=" hm \n"), "only reasoning: hm"),
        (Answer(200), "nothing"),
        (Answer(401, text='{"error": "Unauthorized"}'), '401: {"error": "Unauthorized"}'),
        (Answer(0, text="no answer: ConnectError"), "0: no answer: ConnectError"),
    ],
)
def test_an_answer_shows_its_words_or_its_calls_or_its_reasoning(answer: Answer, shown: str) -> None:
    assert answer.shown == shown
