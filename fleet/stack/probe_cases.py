"""The form of a probe's case file, and the validation of a user's folder of cases: `probes: {extra: FOLDER}` of a stack file (docs/probes.md).

Reads the files and their pictures, opens no connection. Called by fleet.program.config at a preview, and by fleet.probes before a run.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import PIL
import pydantic
import pydantic_core
import yaml
from PIL import Image
from pydantic import Field

from fleet import errors
from fleet.schema import FILE, NAME, Form
from fleet.stack import validation_errors

COLOURS = Literal["red", "green", "blue", "yellow", "white", "black"]
MEDIA = {"picture.file": (".jpg", ".jpeg", ".png"), "video": (".mp4",)}
MOST = 20 * 2**20  # bytes of a picture or video: it goes into the request, a third longer
LONGEST, BRACKETS = (
    2**16,
    1000,
)  # bytes and brackets of a case file: the YAML reader's time grows with the square of its depth
Text = Annotated[str, Field(min_length=1)]
# The file is in the case's folder: no other path is possible.
File = Annotated[str, Field(pattern=FILE)]
Pixels = tuple[float, float, float, float]
Percent = Annotated[float, Field(gt=0, le=1)]


class Keys(Form):
    """A mapping whose keys all have a value. An empty value is a mistake, not the default."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _full(cls, raw: Any) -> Any:
        empty = [str(key) for key, value in raw.items() if value is None] if isinstance(raw, Mapping) else []
        if empty:
            raise pydantic_core.PydanticCustomError("empty", "a value for {keys}", {"keys": ", ".join(empty)})
        return raw


class Bottle(Keys):
    """A bottle of a drawing: `box` is left, top, right, bottom in pixels."""

    colour: COLOURS
    box: Pixels


class Thing(Keys):
    """A thing on a photograph, with its box in pixels."""

    label: Text
    box: Pixels


class Picture(Keys):
    """A drawing (`size`, `bottles`) or a photograph (`file`, `objects`, its source and licence)."""

    size: tuple[Annotated[int, Field(ge=28, le=4096)], Annotated[int, Field(ge=28, le=4096)]] | None = None
    bottles: Annotated[list[Bottle], Field(min_length=1)] | None = None
    file: File | None = None
    objects: Annotated[list[Thing], Field(min_length=1)] | None = None
    source: str = ""
    licence: str = ""

    @pydantic.model_validator(mode="after")
    def _one(self) -> "Picture":
        if [self.file is None, self.objects is None, self.size is not None, self.bottles is not None] not in (
            [False] * 4,
            [True] * 4,
        ):
            raise pydantic_core.PydanticCustomError("picture", "`size` and `bottles`, or `file` and `objects`")
        return self

    @property
    def boxes(self) -> Iterator[tuple[str, str, Pixels]]:
        """(key, label, box) of each bottle or object."""
        for place, bottle in enumerate(self.bottles or ()):
            yield f"picture.bottles[{place}].box", bottle.colour, bottle.box
        for place, thing in enumerate(self.objects or ()):
            yield f"picture.objects[{place}].box", thing.label, thing.box


class Call(Keys):
    """The tool call that the model must make."""

    name: Text
    arguments: dict[str, Any]


class Check(Keys):
    """The checks by name, with their parameters; fleet/probes/checks.py has their code."""

    status: Annotated[list[Annotated[int, Field(ge=100, le=599)]], Field(min_length=1)] | None = None
    box: Text | None = None
    bottles: Literal[True] | None = None
    words: Annotated[list[Text], Field(min_length=1)] | None = None
    no_words: Annotated[list[Text], Field(min_length=1)] | None = None
    tool_call: Call | None = None
    streamed: Annotated[int, Field(ge=1)] | None = None
    reasoning_apart: Literal[True] | None = None


class Sampling(Keys):
    """The sampling parameters of the request; without them, temperature 0."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Percent | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None


class CaseFile(Keys):
    """A case: one request, and the checks on its answer."""

    about: Text
    question: Text
    checks: Annotated[list[Check], Field(min_length=1)]
    picture: Picture | None = None
    image_url: str = ""
    video: File | None = None
    thinking: bool = False
    stream: bool = False
    authorized: bool = True
    model: str = ""
    tools: list[dict[str, Any]] = []
    sampling: Sampling | None = None
    advisory: bool = False


def read_folder(
    folder: Path, label: str, project_cases: Collection[str]
) -> tuple[dict[str, dict[str, Any]], list[errors.SettingsError]]:
    """Return {name: content} of each case in a folder, sorted by name, and every mistake in them.

    `label` is the folder as the stack file names it; `project_cases` are the names that the project's own cases have.
    """
    if not folder.is_dir():
        return {}, [_mistake(label, "", "there is no such folder", "a folder with a YAML file for each case")]
    files = sorted(folder.glob("*.yaml"))
    if not files:
        return {}, [_mistake(label, "", "holds no case", "a YAML file for each case, NAME.yaml")]
    cases: dict[str, dict[str, Any]] = {}
    mistakes: list[errors.SettingsError] = []
    for path in files:
        cases[path.stem], case_mistakes = _read(path, f"{label.rstrip('/')}/{path.name}", project_cases)
        mistakes += case_mistakes
    return cases, mistakes


def _read(path: Path, file: str, project_cases: Collection[str]) -> tuple[dict[str, Any], list[errors.SettingsError]]:
    """Return the content of a case file, and the mistakes in it."""
    if not re.fullmatch(NAME, path.stem):
        return {}, [_mistake(file, "", "a case cannot have this file's name", validation_errors.FORMS[NAME])]
    if path.stem in project_cases:
        return {}, [_mistake(file, "", "a case of the project has this name", "another name for the file")]
    try:
        content = path.read_bytes()
        if len(content) > LONGEST or content.count(b"[") + content.count(b"{") > BRACKETS:
            return {}, [_mistake(file, "", "is too long", f"at most {LONGEST} bytes and {BRACKETS} brackets")]
        raw = yaml.safe_load(content)
    except OSError as error:
        return {}, [_mistake(file, "", str(error.strerror).lower(), "a file that can be read")]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return {}, [_mistake(file, f"line {line}", str(error.problem), "YAML")]
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        return {}, [_mistake(file, "", f"is not readable as YAML ({type(error).__name__})", "YAML")]
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
        return {}, [_mistake(file, "", "holds no keys", ", ".join(CaseFile.model_fields))]
    try:
        case = CaseFile.model_validate(raw)
    except pydantic.ValidationError as error:
        return {}, validation_errors.from_pydantic(error, file, CaseFile, False, secrets=())
    return case.model_dump(exclude_unset=True), list(_within(case, path.parent, file))


def _within(case: CaseFile, folder: Path, file: str) -> Iterator[errors.SettingsError]:
    """Yield the mistakes between the keys of a case, and in its files."""
    picture = case.picture
    size = picture.size if picture else None
    for key, name in (("picture.file", picture.file if picture else None), ("video", case.video)):
        if name is None:
            continue
        path = folder / name
        if path.suffix not in MEDIA[key]:
            yield _mistake(file, key, "is another kind of file", ", ".join(MEDIA[key]), name)
        elif not path.is_file():
            yield _mistake(file, key, "there is no such file beside the case", "a file in the same folder", name)
        elif path.stat().st_size > MOST:
            yield _mistake(file, key, f"has {path.stat().st_size} bytes", f"at most {MOST}", name)
        elif key == "picture.file":
            size = _size(path)
            if size is None:
                yield _mistake(file, key, "is not readable as a picture", " or ".join(MEDIA[key]), name)
    width, height = size or (float("inf"), float("inf"))  # the message above reports an unreadable picture
    for key, _, (left, top, right, bottom) in picture.boxes if picture else ():
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            allowed = f"[left, top, right, bottom] within {width} x {height} pixels"
            yield _mistake(file, key, "is not a box on this picture", allowed, [left, top, right, bottom])
    labels = [label for _, label, _ in picture.boxes] if picture else []
    for place, check in enumerate(case.checks):
        key = f"checks[{place}]"
        if check.box is not None and labels.count(check.box) != 1:
            seen = "is on the picture twice" if check.box in labels else "is not on the picture"
            near = validation_errors.nearest(check.box, labels)
            yield _mistake(file, f"{key}.box", seen, ", ".join(labels) or "a picture", check.box, near)
        if check.bottles and not (picture and picture.bottles):
            yield _mistake(file, f"{key}.bottles", "the case has no drawing", "`picture` with `size` and `bottles`")


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as opened:
            opened.load()
            return opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, PIL.UnidentifiedImageError):
        return None


def _mistake(
    file: str, key: str, seen: str, allowed: str, value: str | Sequence[float] = "", near: str = ""
) -> errors.SettingsError:
    return errors.SettingsError(file=file, key=key, value=value, seen=seen, allowed=allowed, nearest=near)
