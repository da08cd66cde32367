"""A probe as data: one YAML file in cases/ holds the request and the checks on its answer.

Needs PyYAML, and Pillow once a request with a picture is built. Called by runner, report, the CLI and lab/model.
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
# Enough for an answer, and for the real model to think before it.
SHORT, THINKING = 512, 4096


@dataclass(frozen=True)
class Case:
    """One probe. `about` says in a sentence what it proves; `checks` are names in checks.py with their parameters."""

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
    min_iou: float = field(default=0.5)

    def body(self, model: str) -> dict[str, Any]:
        """Return the JSON body of the request to /v1/chat/completions, for a model served under this name."""
        content: list[dict[str, Any]] = []
        if url := self._image():
            content.append({"type": "image_url", "image_url": {"url": url}})
        if self.video:
            url = _data("video/mp4", (HERE / "media" / self.video).read_bytes())
            content.append({"type": "video_url", "video_url": {"url": url}})
        content.append({"type": "text", "text": self.question})
        body: dict[str, Any] = {
            "model": self.model or model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": THINKING if self.thinking else SHORT,
            "chat_template_kwargs": {"enable_thinking": self.thinking},
        }
        if self.tools:
            body |= {"tools": list(self.tools), "tool_choice": "auto"}
        return body | ({"stream": True} if self.stream else {})

    def _image(self) -> str:
        return _data("image/png", picture.png(self.picture)) if self.picture else self.image_url


def load(names: Sequence[str] = (), min_iou: float = 0.5) -> list[Case]:
    """Return the named cases, or all, in the order of their files' names; a box counts as found from `min_iou` on."""
    known = {path.stem: path for path in sorted((HERE / "cases").glob("*.yaml"))}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise errors.FleetError(
                doing=f"load probe {name}",
                seen="no such probe",
                wanted=", ".join(known),
                next=f"did you mean {near[0]}?" if near else "",
            )
    return [replace(_read(known[name]), min_iou=min_iou) for name in names or known]


@functools.cache
def _read(path: Path) -> Case:
    return Case(name=path.stem, **yaml.safe_load(path.read_text()))


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
