"""The lessons of the lab's model: the probes' questions about their pictures, and about more of the same kind.

Every question comes with several pictures, so that only looking answers it. Needs Pillow, and the case files of fleet/probes.
Called by train.py.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet import probes
from fleet.probes import picture

MORE_SCENES: list[dict[str, Any]] = [
    {
        "size": [448, 336],
        "bottles": [
            {"colour": "blue", "box": [48, 84, 108, 262]},
            {"colour": "red", "box": [216, 108, 276, 270]},
            {"colour": "green", "box": [350, 80, 410, 266]},
        ],
    },
    {
        "size": [448, 336],
        "bottles": [
            {"colour": "yellow", "box": [100, 100, 160, 266]},
            {"colour": "red", "box": [280, 76, 340, 264]},
        ],
    },
]
MORE_CITIES = ["London"]


@dataclass(frozen=True)
class Lesson:
    """A question and its answer; `reasoning` for a question that asks the model to think."""

    question: str
    answer: str
    reasoning: str = ""
    scene: picture.Scene | None = None
    mirrored: bool = False
    video: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    thinking: bool = False

    @property
    def target(self) -> str:
        """The text that the model must write after the prompt, with the token that ends its turn."""
        thought = f"<think>{self.reasoning}</think>\n" if self.thinking else ""
        return thought + self.answer + ("<|observation|>" if self.tools else "<|user|>")


def lessons() -> list[Lesson]:
    """Return all lessons, each once."""
    return list(
        {
            (lesson.question, repr(lesson.scene), lesson.mirrored, lesson.video, lesson.thinking): lesson
            for lesson in _all()
        }.values()
    )


def _all() -> Iterator[Lesson]:
    cases = probes.load()
    drawings = [case.picture for case in cases if case.picture and "file" not in case.picture] + MORE_SCENES
    by_name = {case.name: case for case in cases}
    for scene in drawings:
        for colour, _ in picture.objects(scene):
            question = by_name["bottle-grounding"].question.replace("red", colour)
            answer = box_text(scene, colour)
            yield Lesson(question, answer, scene=scene)
            yield Lesson(question, answer, f"I look for the {colour} bottle.", scene, thinking=True)
        yield Lesson(by_name["bottle-by-position"].question, box_text(scene, second_from_right(scene)), scene=scene)
        yield Lesson(by_name["bottles-understanding"].question, list_text(scene), scene=scene)
    photograph = by_name["photograph"]
    assert photograph.picture
    for label, _ in picture.objects(photograph.picture):
        question = (
            photograph.question.replace("the cup, without its saucer", f"the {label}")
            if label != "cup"
            else photograph.question
        )
        for mirrored in (False, True):
            answer = box_text(photograph.picture, label, mirrored)
            yield Lesson(question, answer, scene=photograph.picture, mirrored=mirrored)
    for case in cases:
        if case.video:
            way = case.video.removesuffix(".mp4").replace("-", " ")
            yield Lesson(case.question, f"The red dot moves from {way}.", video=case.video)
    tool = by_name["tool-call"]
    for city in ["Paris", *MORE_CITIES]:
        yield Lesson(tool.question.replace("Paris", city), call_text(city), tools=tool.tools)


def box_text(scene: picture.Scene, label: str, mirrored: bool = False) -> str:
    """Return a box in the real model's form."""
    left, top, right, bottom = picture.objects(scene, label)[0][1]
    if mirrored:
        left, right = picture.GRID - right, picture.GRID - left
    return f"<|begin_of_box|>[[{_numbers((left, top, right, bottom))}]]<|end_of_box|>"


def list_text(scene: picture.Scene) -> str:
    """Return the list of all bottles in the real model's form."""
    items = (
        f'{{"label": {json.dumps(colour + " bottle")}, "bbox_2d": [{_numbers(box)}]}}'
        for colour, box in picture.objects(scene)
    )
    return f"[{', '.join(items)}]"


def call_text(city: str) -> str:
    """Return a tool call in the form of vLLM's parser glm45."""
    return f"<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>{city}</arg_value>\n</tool_call>"


def second_from_right(scene: picture.Scene) -> str:
    """Return the colour of the second bottle from the right."""
    colour: str = sorted(scene["bottles"], key=lambda one: one["box"][0])[-2]["colour"]
    return colour


def _numbers(box: picture.Box) -> str:
    return ",".join(str(min(999, round(edge))) for edge in box)
