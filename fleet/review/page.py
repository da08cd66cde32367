"""The report as one HTML page without scripts and without anything from elsewhere.

Pure. Called by fleet.cli.review.
"""

import html

from fleet.review.folds import clipped
from fleet.review.outline import DRESS, LIMIT, Outline
from fleet.review.wording import MARK

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:13px/1.45 ui-monospace,monospace;background:#f3f4f6}pre{padding:.6rem;overflow:auto}h1{font-size:1.2rem}"
)
# The page may load nothing and run nothing, whatever is in it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(outline: Outline) -> str:
    """Return the page."""
    title = html.escape(outline.title.replace(MARK, ""))
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<style>{STYLE}</style></head><body>\n'
    )
    lines = "\n".join(f"<li>{_line(line)}</li>" for line in outline.lines)
    page = f"{head}<h1>{_line(outline.title)}</h1>\n<ul>\n{lines}\n</ul>\n"
    return f"{page}{_folds(outline, LIMIT - DRESS - len(page))}</body></html>\n"


def _folds(outline: Outline, budget: int) -> str:
    text = ""
    for fold in clipped(outline.folds, budget, lambda line: len(html.escape(line))):
        inside = html.escape("\n".join(line.replace(MARK, "") for line in fold.lines))
        text += f"<details><summary>{html.escape(fold.title)}</summary>\n<pre>{inside}</pre></details>\n"
    return text


def _line(line: str) -> str:
    parts = line.split(MARK)
    return "".join(
        f"<code>{html.escape(part)}</code>" if number % 2 else html.escape(part) for number, part in enumerate(parts)
    )
