"""Our own cases: each loads, each picture shows its truth, each request holds all that it needs."""

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import errors, probes
from fleet.probes import case as cases
from fleet.probes import checks, picture

GOLDEN = Path(__file__).parent / "golden" / "probes"
LAB = Path(__file__).parents[2] / "lab" / "model"
ALL = probes.load()
PICTURED = [case for case in ALL if case.picture]
DRAWN = [case for case in PICTURED if case.picture and "bottles" in case.picture]
PHOTOGRAPHS = [case for case in PICTURED if case.picture and "file" in case.picture]


NAMED = {case.name: case for case in ALL}


def urls(value: Any) -> Iterator[str]:
    """Yield every URL in a request's body."""
    if isinstance(value, dict):
        if isinstance(value.get("url"), str):
            yield value["url"]
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from urls(item)


def test_every_file_is_a_case_with_known_checks() -> None:
    files = sorted(path.stem for path in (cases.HERE / "cases").iterdir())
    assert [case.name for case in ALL] == files, "fleet/probes/cases/ has one NAME.yaml for each case, and nothing else"
    for case in ALL:
        assert case.about.endswith("."), f"{case.name}: `about` is a sentence"
        assert case.checks, f"{case.name}: add `checks`"
        unknown = {name for check in case.checks for name in check} - set(checks.CHECKS)
        where = "CHECKS in fleet/probes/checks.py, and to fleet/stack/probe_cases.py"
        assert not unknown, f"{case.name}: add the check to {where}"


def test_load_keeps_the_order_of_the_names() -> None:
    assert [case.name for case in probes.load(["tool-call", "bottle-grounding"])] == ["tool-call", "bottle-grounding"]


def test_an_unknown_name_is_reported_with_the_nearest_and_all_others() -> None:
    with pytest.raises(errors.FleetError) as caught:
        probes.load(["botle-grounding"])
    expected = (GOLDEN / "an-unknown-name.txt").read_text().replace("CASES", ", ".join(NAMED))
    assert f"{caught.value}\n" == expected


def test_a_name_like_no_other_has_no_nearest() -> None:
    with pytest.raises(errors.FleetError) as caught:
        probes.load(["x"])
    assert caught.value.next == ""


@pytest.mark.parametrize("case", DRAWN, ids=lambda case: case.name)
def test_the_picture_has_a_bottle_s_colour_inside_the_true_box_and_not_beside_it(case: probes.Case) -> None:
    assert case.picture
    image = picture.image(case.picture)
    width, height = image.size
    for colour, (left, top, right, bottom) in checks.truth(case):
        middle, across = (left + right) / 2 * width / 1000, height / 1000
        for inside in (top * across + 4, (top + bottom) / 2 * across, bottom * across - 4):
            assert image.getpixel((round(middle), round(inside))) == picture.COLOURS[colour]
        beside = round(left * width / 1000) - 3, round((top + bottom) / 2 * across)
        assert image.getpixel(beside) in (picture.WALL, picture.TABLE)


@pytest.mark.parametrize("case", DRAWN, ids=lambda case: case.name)
def test_a_drawing_is_large_enough_and_its_bottles_do_not_overlap(case: probes.Case) -> None:
    assert case.picture
    width, height = picture.size(case.picture)
    assert width >= 448 and height >= 336
    boxes = [box for _, box in picture.objects(case.picture)]
    assert all(0 <= left < right <= 1000 and 0 <= top < bottom <= 1000 for left, top, right, bottom in boxes)
    spans = sorted((left, right) for left, _, right, _ in boxes)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize("case", PHOTOGRAPHS, ids=lambda case: case.name)
def test_a_photograph_is_small_free_and_of_a_known_source_and_its_boxes_are_in_it(case: probes.Case) -> None:
    assert case.picture
    kind, content = picture.encoded(case.picture)
    assert kind == "image/jpeg" and len(content) <= 60_000, "a smaller JPEG: each request sends it"
    free = case.picture["licence"] == "CC0-1.0" and case.picture["source"]
    assert free, "`picture` says where a free photograph is from"
    assert all(0 <= box[0] < box[2] <= 1000 and 0 <= box[1] < box[3] <= 1000 for _, box in checks.truth(case))


def test_the_cup_of_the_photograph_is_white_inside_its_box_and_above_it_is_brown_wood() -> None:
    case = NAMED["photograph"]
    assert case.picture
    ((_, box),) = checks.truth(case)
    image = picture.image(case.picture)
    left, top, right, _ = (round(edge * size / 1000) for edge, size in zip(box, image.size * 2, strict=True))
    rim = image.getpixel(((left + right) // 2, top + 4))
    wood = image.getpixel(((left + right) // 2, top - 6))
    assert isinstance(rim, tuple) and min(rim) > 200
    assert isinstance(wood, tuple) and wood[2] < 100


def test_a_request_holds_the_photograph_byte_for_byte() -> None:
    case = NAMED["photograph"]
    (url,) = urls(case.body("m"))
    content = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))
    assert content == (cases.MEDIA / "coffee.jpg").read_bytes()


@pytest.mark.parametrize("case", PICTURED, ids=lambda case: case.name)
def test_a_picture_has_each_wanted_thing_once_and_others_beside_it(case: probes.Case) -> None:
    assert case.picture
    labels = [label for label, _ in checks.truth(case)]
    assert len(set(labels)) == len(labels) > 0
    assert len(picture.objects(case.picture)) > 1


def test_a_drawn_picture_is_the_same_every_time() -> None:
    assert DRAWN[0].picture
    assert picture.encoded(DRAWN[0].picture) == picture.encoded(DRAWN[0].picture)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_a_request_fetches_nothing_from_the_network(case: probes.Case) -> None:
    in_body = list(urls(case.body("m")))
    local = ["file:///etc/passwd"] if case.name == "refuses-local-file" else []
    assert [url for url in in_body if not url.startswith("data:")] == local
    assert bool(in_body) is bool(case.picture or case.image_url or case.video)


def test_a_request_names_the_served_model_and_has_temperature_zero() -> None:
    body = NAMED["bottle-grounding"].body("zai-org/GLM-4.6V-Flash")
    assert body["model"] == "zai-org/GLM-4.6V-Flash"
    assert body["temperature"] == 0
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "stream" not in body and "tools" not in body


def test_one_case_samples_as_users_do_and_leaves_the_temperature_to_the_server() -> None:
    sampled = NAMED["sampled-understanding"]
    body = sampled.body("m")
    generation = json.loads((LAB / "checkpoint" / "generation_config.json").read_text())
    assert "temperature" not in body
    assert {key: body[key] for key in ("top_p", "top_k")} == {key: generation[key] for key in ("top_p", "top_k")}


def test_the_one_case_that_wants_reasoning_advises_and_does_not_gate() -> None:
    wants = [case.name for case in ALL if any("reasoning_apart" in check for check in case.checks)]
    advisory = [case.name for case in ALL if case.advisory]
    assert wants == advisory == ["reasoning-apart"], (
        "a case that does not gate: say why in docs/probes.md, and name it here"
    )


def test_the_cases_that_want_no_answer_are_those_that_want_a_refusal() -> None:
    refusals = [case.name for case in ALL if case.name.startswith("refuses-")]
    no_answer = [case.name for case in ALL if not case.wants_answer]
    assert no_answer == refusals, "name a case whose `status` lacks 200 refuses-SOMETHING, and no other"


def test_a_thinking_case_has_more_tokens() -> None:
    thinking, short = NAMED["reasoning-apart"].body("m"), NAMED["bottle-grounding"].body("m")
    assert thinking["chat_template_kwargs"] == {"enable_thinking": True}
    assert thinking["max_tokens"] > short["max_tokens"]


def test_a_streamed_case_requests_a_stream_and_a_tool_case_sends_its_tools() -> None:
    assert NAMED["streamed-grounding"].body("m")["stream"] is True
    body = NAMED["tool-call"].body("m")
    assert body["tools"][0]["function"]["name"] == "get_weather"
    assert body["tool_choice"] == "auto"


@pytest.mark.parametrize(
    ("name", "fields", "codes"),
    [
        ("refuses-wrong-model", {"model": "no/such-model"}, [404]),
        ("refuses-broken-image", {"image_url": "data:image/png;base64,bm90IGEgcGljdHVyZQ=="}, [400]),
        ("refuses-local-file", {"image_url": "file:///etc/passwd"}, [400, 403, 500]),
        ("refuses-no-key", {"authorized": False}, [401]),
    ],
)
def test_a_refusal_is_wanted_by_its_code(name: str, fields: dict[str, object], codes: list[int]) -> None:
    case = NAMED[name]
    assert {key: getattr(case, key) for key in fields} == fields
    assert case.checks[0] == {"status": codes}


def test_a_request_for_a_wrong_model_names_it_whatever_is_served() -> None:
    assert NAMED["refuses-wrong-model"].body("zai-org/GLM-4.6V")["model"] == "no/such-model"


def test_one_case_alone_sends_no_key() -> None:
    assert [case.name for case in ALL if not case.authorized] == ["refuses-no-key"]


def test_the_two_videos_differ_and_want_opposite_words() -> None:
    right, left = NAMED["video-left-to-right"], NAMED["video-right-to-left"]
    assert right.question == left.question
    assert right.body("m") != left.body("m")
    assert right.checks[1:] == [{"words": ["left to right"]}, {"no_words": ["right to left"]}]
    assert left.checks[1:] == [{"words": ["right to left"]}, {"no_words": ["left to right"]}]
