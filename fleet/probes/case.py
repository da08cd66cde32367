"""A probe as data: one YAML file holds the request and the checks on its answer. Ours are in cases/, a user's own in a folder of the stack.

Needs PyYAML, Pillow once a request with a picture is built, and fleet.stack.probe_cases for the form of a user's own.
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
# Enough for an answer, and for the real model to think before it.
SHORT, THINKING = 512, 4096


@dataclass(frozen=True)
class Case:
    """One probe. `about` says in a sentence what it proves; `checks` are names in checks.py with their parameters.

    Without `sampling` the answer is asked without chance. An `advisory` one is reported and does not gate. `folder` has its files.
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
        """Whether the model must answer: otherwise the server must refuse, and at once."""
        wanted = [codes for check in self.checks for name, codes in check.items() if name == "status"]
        return all(200 in codes for codes in wanted)

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
    """Return the named cases, or all, in the order of their files' names, first ours and then those of the folder `extra`.

    A box counts as found from `min_iou` on. FleetError for a name that no case has, or a case in `extra` that has another form.
    """
    known = {path.stem: _shipped(path) for path in sorted((HERE / "cases").glob("*.yaml"))}
    if extra is not None:
        known |= _own(extra, list(known))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise errors.FleetError(
                doing=f"load probe {name}",
                seen="no such probe",
                wanted=", ".join(known),
                next=f"did you mean {near[0]}?" if near else "",
            )
    return [replace(known[name], min_iou=min_iou) for name in names or known]


@functools.cache
def _shipped(path: Path) -> Case:
    return _case(path.stem, MEDIA, yaml.safe_load(path.read_text()))


def _own(folder: Path, taken: Sequence[str]) -> dict[str, Case]:
    """Return the cases of a user's folder. Read it on each call: the files may have changed since the preview."""
    from fleet.stack import (
        probe_cases,  # pydantic costs start-up time that stacks without cases of their own need not pay
    )

    found, mistakes = probe_cases.read_folder(folder, str(folder), taken)
    if mistakes:
        raise mistakes[0]
    return {name: _case(name, folder, keys) for name, keys in found.items()}


def _case(name: str, folder: Path, keys: Mapping[str, Any]) -> Case:
    """Return a case with the path of its photograph in the place of the file's name."""
    shown = keys.get("picture") or {}
    whole = {**shown, "file": str(folder / shown["file"])} if "file" in shown else shown
    return Case(name=name, folder=folder, **{**keys, "picture": whole or None})


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
