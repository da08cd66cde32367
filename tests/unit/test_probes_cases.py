"""The cases that are shipped: each loads, each picture shows its truth, each request carries all that it needs."""

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
PICTURED = [one for one in ALL if one.picture]
DRAWN = [one for one in PICTURED if one.picture and "bottles" in one.picture]
PHOTOGRAPHS = [one for one in PICTURED if one.picture and "file" in one.picture]


def by_name(name: str) -> probes.Case:
    return probes.load([name])[0]


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
    assert [one.name for one in ALL] == files, "fleet/probes/cases/ has one NAME.yaml for each case, and nothing else"
    for one in ALL:
        assert one.about.endswith("."), f"{one.name}: `about` is a sentence"
        assert one.checks, f"{one.name}: add `checks`"
        unknown = {name for check in one.checks for name in check} - set(checks.CHECKS)
        assert not unknown, (
            f"{one.name}: add the check to CHECKS in fleet/probes/checks.py, and to fleet/stack/probe_cases.py"
        )


def test_named_cases_come_in_the_order_of_their_names() -> None:
    assert [one.name for one in probes.load(["tool-call", "bottle-grounding"])] == ["tool-call", "bottle-grounding"]


def test_an_unknown_name_is_told_with_the_nearest_and_all_there_are() -> None:
    with pytest.raises(errors.FleetError) as caught:
        probes.load(["botle-grounding"])
    expected = (GOLDEN / "an-unknown-name.txt").read_text().replace("CASES", ", ".join(one.name for one in ALL))
    assert f"{caught.value}\n" == expected


def test_a_name_like_no_other_has_no_nearest() -> None:
    with pytest.raises(errors.FleetError) as caught:
        probes.load(["x"])
    assert caught.value.next == ""


@pytest.mark.parametrize("one", DRAWN, ids=lambda one: one.name)
def test_inside_the_true_box_the_picture_has_that_bottle_s_colour_and_outside_not(one: probes.Case) -> None:
    assert one.picture
    image = picture.image(one.picture)
    width, height = image.size
    for colour, (left, top, right, bottom) in checks.truth(one):
        middle, across = (left + right) / 2 * width / 1000, height / 1000
        for inside in (top * across + 4, (top + bottom) / 2 * across, bottom * across - 4):
            assert image.getpixel((round(middle), round(inside))) == picture.COLOURS[colour]
        beside = round(left * width / 1000) - 3, round((top + bottom) / 2 * across)
        assert image.getpixel(beside) in (picture.WALL, picture.TABLE)


@pytest.mark.parametrize("one", DRAWN, ids=lambda one: one.name)
def test_a_drawing_is_large_enough_and_its_bottles_stand_apart_in_it(one: probes.Case) -> None:
    assert one.picture
    width, height = picture.size(one.picture)
    assert width >= 448 and height >= 336
    found = picture.objects(one.picture)
    assert all(0 <= left < right <= 1000 and 0 <= top < bottom <= 1000 for _, (left, top, right, bottom) in found)
    spans = sorted((box[0], box[2]) for _, box in found)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize("one", PHOTOGRAPHS, ids=lambda one: one.name)
def test_a_photograph_is_small_free_and_of_a_known_source_and_its_boxes_are_in_it(one: probes.Case) -> None:
    assert one.picture
    kind, content = picture.encoded(one.picture)
    assert kind == "image/jpeg" and len(content) <= 60_000, "a smaller JPEG: each request sends it"
    assert one.picture["licence"] == "CC0-1.0" and one.picture["source"], (
        "`picture` says where a free photograph is from"
    )
    assert all(0 <= box[0] < box[2] <= 1000 and 0 <= box[1] < box[3] <= 1000 for _, box in checks.truth(one))


def test_the_cup_of_the_photograph_is_white_inside_its_box_and_brown_wood_stands_around_it() -> None:
    one = by_name("photograph")
    assert one.picture
    ((_, box),) = checks.truth(one)
    image = picture.image(one.picture)
    left, top, right, _ = (round(edge * size / 1000) for edge, size in zip(box, image.size * 2, strict=True))
    rim = image.getpixel(((left + right) // 2, top + 4))
    wood = image.getpixel(((left + right) // 2, top - 6))
    assert isinstance(rim, tuple) and min(rim) > 200
    assert isinstance(wood, tuple) and wood[2] < 100


def test_a_photograph_is_asked_about_as_it_lies_in_the_folder() -> None:
    one = by_name("photograph")
    (url,) = urls(one.body("m"))
    content = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))
    assert content == (cases.MEDIA / "coffee.jpg").read_bytes()


@pytest.mark.parametrize("one", PICTURED, ids=lambda one: one.name)
def test_what_is_asked_for_is_there_once_and_a_guess_may_hit_another(one: probes.Case) -> None:
    assert one.picture
    asked, there = checks.truth(one), picture.objects(one.picture)
    assert len({label for label, _ in asked}) == len(asked) > 0
    assert len(there) > 1


def test_a_drawn_picture_is_the_same_every_time() -> None:
    assert DRAWN[0].picture
    assert picture.encoded(DRAWN[0].picture) == picture.encoded(DRAWN[0].picture)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_a_request_fetches_nothing_from_the_network(one: probes.Case) -> None:
    found = list(urls(one.body("m")))
    local = ["file:///etc/passwd"] if one.name == "refuses-local-file" else []
    assert [url for url in found if not url.startswith("data:")] == local
    assert bool(found) is bool(one.picture or one.image_url or one.video)


def test_a_request_names_the_served_model_and_asks_without_chance() -> None:
    body = by_name("bottle-grounding").body("zai-org/GLM-4.6V-Flash")
    assert body["model"] == "zai-org/GLM-4.6V-Flash"
    assert body["temperature"] == 0
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "stream" not in body and "tools" not in body


def test_one_case_samples_as_users_do_and_leaves_the_temperature_to_the_server() -> None:
    sampled = by_name("sampled-understanding")
    body = sampled.body("m")
    generation = json.loads((LAB / "checkpoint" / "generation_config.json").read_text())
    assert "temperature" not in body
    assert {key: body[key] for key in ("top_p", "top_k")} == {key: generation[key] for key in ("top_p", "top_k")}


def test_the_one_case_that_wants_reasoning_advises_and_does_not_gate() -> None:
    wants = [one.name for one in ALL if any("reasoning_apart" in check for check in one.checks)]
    assert wants == [one.name for one in ALL if one.advisory] == ["reasoning-apart"], (
        "a case that does not gate: say why in docs/probes.md, and name it here"
    )


def test_what_must_be_refused_is_known_by_its_codes() -> None:
    assert [one.name for one in ALL if not one.wants_answer] == [
        one.name for one in ALL if one.name.startswith("refuses-")
    ], "name a case whose `status` lacks 200 refuses-SOMETHING, and no other"


def test_a_thinking_case_has_room_to_think() -> None:
    thinking, short = by_name("reasoning-apart").body("m"), by_name("bottle-grounding").body("m")
    assert thinking["chat_template_kwargs"] == {"enable_thinking": True}
    assert thinking["max_tokens"] > short["max_tokens"]


def test_a_streamed_case_asks_for_a_stream_and_a_tool_case_brings_its_tools() -> None:
    assert by_name("streamed-grounding").body("m")["stream"] is True
    body = by_name("tool-call").body("m")
    assert body["tools"][0]["function"]["name"] == "get_weather"
    assert body["tool_choice"] == "auto"


@pytest.mark.parametrize(
    ("name", "refused", "codes"),
    [
        ("refuses-wrong-model", {"model": "no/such-model"}, [404]),
        ("refuses-broken-image", {"image_url": "data:image/png;base64,bm90IGEgcGljdHVyZQ=="}, [400]),
        ("refuses-local-file", {"image_url": "file:///etc/passwd"}, [400, 403, 500]),
        ("refuses-no-key", {"authorized": False}, [401]),
    ],
)
def test_what_must_be_refused_is_asked_and_its_code_is_wanted(
    name: str, refused: dict[str, object], codes: list[int]
) -> None:
    one = by_name(name)
    assert {key: getattr(one, key) for key in refused} == refused
    assert one.checks[0] == {"status": codes}


def test_a_wrong_model_name_is_asked_whatever_is_served() -> None:
    assert by_name("refuses-wrong-model").body("zai-org/GLM-4.6V")["model"] == "no/such-model"


def test_only_the_case_without_a_key_has_none() -> None:
    assert [one.name for one in ALL if not one.authorized] == ["refuses-no-key"]


def test_the_two_videos_differ_and_want_opposite_words() -> None:
    right, left = by_name("video-left-to-right"), by_name("video-right-to-left")
    assert right.question == left.question
    assert right.body("m") != left.body("m")
    assert right.checks[1:] == [{"words": ["left to right"]}, {"no_words": ["right to left"]}]
    assert left.checks[1:] == [{"words": ["right to left"]}, {"no_words": ["left to right"]}]
