"""The report as Markdown: a comment of a pull request, or a terminal. Text of a file or a node stands in code, where nothing is interpreted.

Pure. Called by fleet.cli.review. The golden texts are in tests/unit/golden/review.
"""

import html
import re

from fleet.review.folds import clipped
from fleet.review.outline import DRESS, LIMIT, Outline
from fleet.review.wording import MARK


def render(outline: Outline, marker: str = "") -> str:
    """Return the report; `marker` is an HTML comment by which a later run finds the comment that it edits."""
    head = [f"<!-- {marker} -->"] if marker else []
    visible = [*head, f"**{_line(outline.title)}**", "", *(f"- {_line(line)}" for line in outline.lines)]
    text = "\n".join(visible)
    if not outline.folds:
        return f"{text}\n"
    return f"{text}\n\n<details><summary>Details</summary>\n{_folds(outline, LIMIT - DRESS - len(text))}\n</details>\n"


def visible(outline: Outline) -> str:
    """Return what a reader sees before opening anything, for a terminal."""
    lines = [outline.title, *(f"- {line}" for line in outline.lines)]
    return "\n".join(line.replace(MARK, "") for line in lines) + "\n"


def _folds(outline: Outline, budget: int) -> str:
    """Return the folds as blocks of code, each with a fence that no line of it can close."""
    blocks = []
    for fold in clipped(outline.folds, budget, len):
        lines = [line.replace(MARK, "") for line in fold.lines]
        fence = _fence("\n".join(lines), 3)
        blocks += ["", f"**{html.escape(fold.title)}**", "", f"{fence}text", *lines, fence]
    return "\n".join(blocks)


def _line(line: str) -> str:
    parts = line.split(MARK)
    return "".join(_code(part) if number % 2 else html.escape(part, quote=False) for number, part in enumerate(parts))


def _code(text: str) -> str:
    """Return a span of code around any text."""
    fence = _fence(text, 1)
    pad = " " if not text or text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _fence(text: str, least: int) -> str:
    """Return more backticks than any run of them in the text, at least so many."""
    return "`" * max(least, *(len(run) + 1 for run in re.findall("`+", text)), 0)
