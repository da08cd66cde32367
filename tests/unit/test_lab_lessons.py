"""The lab's model has a lesson for each question of the shipped probes, and its checkpoint was trained on these lessons."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fleet import probes
from lab.model import lessons

LESSONS = lessons.lessons()
# Digest of the lessons that lab/model/checkpoint was trained on.
DIGEST = "55f6bc9db06d323d"


def scene(picture: Any) -> Any:
    """Return a picture without the folder of its file."""
    return {**picture, "file": Path(picture["file"]).name} if picture and "file" in picture else picture


@pytest.mark.parametrize("case", [case for case in probes.load() if case.wants_answer], ids=lambda case: case.name)
def test_the_model_has_a_lesson_for_each_case(case: probes.Case) -> None:
    questions = [(lesson.question, scene(lesson.scene), lesson.video, lesson.thinking) for lesson in LESSONS]
    assert (case.question, scene(case.picture), case.video, case.thinking) in questions, (
        f"the lab's model cannot answer {case.name}: add a lesson with its question in lab/model/lessons.py (_all), "
        "then train the model (lab/model/README.md)"
    )


def test_the_checkpoint_was_trained_on_the_lessons() -> None:
    contents = [{**asdict(lesson), "scene": scene(lesson.scene)} for lesson in LESSONS]
    texts = sorted(json.dumps(content, sort_keys=True) for content in contents)
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    assert digest == DIGEST, (
        "a case or a lesson changed: train the model again (lab/model/README.md), "
        f"run the probes on the lab (`make test`), then set DIGEST here to {digest}"
    )
