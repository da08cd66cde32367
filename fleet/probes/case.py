"""A probe as data: one YAML file holds a request and the checks on its answer. The shipped ones are in cases/, a user's in a folder of the stack.

Needs PyYAML, Pillow for requests with a picture, and fleet.stack.probe_cases for the form of a user's cases.
Called by runner, report, the CLI and lab/model.
"""

import base64
import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from fleet import errors
from fleet.probes import picture

HERE = Path(__file__).parent
MEDIA = HERE / "media"
SHORT, THINKING = 512, 4096  # tokens: enough for an answer, and for the real model to think before it


@dataclass(frozen=True)
class Case:
    """One probe. `about` is a sentence about what it proves; `checks` are names in checks.py with their parameters.

    Without `sampling` the temperature is 0. An `advisory` case is reported and does not gate. `folder` has its pictures and videos.
    """

    name: str
    about: str
    question: str
    checks: Sequence[Mapping[str, Any]]
    picture: Mapping[str, Any] | None = None
    image_url: str = ""
    video: str = ""
    thinking: bool = False
    stream: bool = False
    authorized: bool = True
    model: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    sampling: Mapping[str, float] = field(default_factory=dict)
    advisory: bool = False
    folder: Path = MEDIA
    min_iou: float = field(default=0.5)

    @property
    def wants_answer(self) -> bool:
        """Whether the model must answer; otherwise the server must refuse."""
        return all(200 in codes for check in self.checks for name, codes in check.items() if name == "status")

    def body(self, model: str) -> dict[str, Any]:
        """Return the JSON body of the request to /v1/chat/completions, for a model served under this name."""
        content: list[dict[str, Any]] = []
        if url := self._image():
            content.append({"type": "image_url", "image_url": {"url": url}})
        if self.video:
            url = _data("video/mp4", (self.folder / self.video).read_bytes())
            content.append({"type": "video_url", "video_url": {"url": url}})
        content.append({"type": "text", "text": self.question})
        body: dict[str, Any] = {
            "model": self.model or model,
            "messages": [{"role": "user", "content": content}],
            **(self.sampling or {"temperature": 0}),
            "max_tokens": THINKING if self.thinking else SHORT,
            "chat_template_kwargs": {"enable_thinking": self.thinking},
        }
        if self.tools:
            body |= {"tools": list(self.tools), "tool_choice": "auto"}
        return body | ({"stream": True} if self.stream else {})

    def _image(self) -> str:
        return _data(*picture.encoded(self.picture)) if self.picture else self.image_url


def load(names: Sequence[str] = (), min_iou: float = 0.5, extra: Path | None = None) -> list[Case]:
    """Return the named cases, or all: the shipped ones, then those of the folder `extra`, each by file name.

    A box is right from an overlap of `min_iou` (0 to 1) on. Raises FleetError for an unknown name and for a malformed case in `extra`.
    """
    cases = {path.stem: _shipped(path) for path in sorted((HERE / "cases").glob("*.yaml"))}
    if extra is not None:
        cases |= _extra(extra, list(cases))
    for name in names:
        if name not in cases:
            near = difflib.get_close_matches(name, cases, n=1)
            raise errors.FleetError(
                doing=f"load probe {name}",
                seen="no such probe",
                wanted=", ".join(cases),
                next=f"did you mean {near[0]}?" if near else "",
            )
    return [replace(cases[name], min_iou=min_iou) for name in names or cases]


@functools.cache
def _shipped(path: Path) -> Case:
    return _case(path.stem, MEDIA, yaml.safe_load(path.read_text()))


def _extra(folder: Path, taken: Sequence[str]) -> dict[str, Case]:
    """Return the cases of a user's folder. Reads it on each call: the files may have changed since the preview."""
    from fleet.stack import (
        probe_cases,  # pydantic costs start-up time that stacks without cases of their own need not pay
    )

    contents, mistakes = probe_cases.read_folder(folder, str(folder), taken)
    if mistakes:
        raise mistakes[0]
    return {name: _case(name, folder, keys) for name, keys in contents.items()}


def _case(name: str, folder: Path, keys: Mapping[str, Any]) -> Case:
    """Return a case; its photograph's file name becomes a path."""
    scene = keys.get("picture") or {}
    if "file" in scene:
        scene = {**scene, "file": str(folder / scene["file"])}
    return Case(name=name, folder=folder, **{**keys, "picture": scene or None})


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
