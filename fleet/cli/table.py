"""Format the reports of the verbs: columns, the order of names, sizes. Pure; called by the verbs."""

import re
from collections.abc import Mapping, Sequence

SHORT = 12  # hex digits of a digest or commit: enough to distinguish two, short enough for one line


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, each column as wide as its widest cell, two spaces between them."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def natural_order(name: str) -> list[str]:
    """Return a sort key that puts prod-2 before prod-10."""
    return [part.rjust(9, "0") if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def size(count: int) -> str:
    """Return a number of bytes as `212.3 GB` or `4.9 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def short(name: str) -> str:
    """Return the first hex digits of a digest or a commit."""
    return name.rpartition("sha256:")[2][:SHORT] or "-"


def phases(seconds: Mapping[str, float]) -> str:
    """Return seconds by role as `docker 31 s, vllm 48 s`, without phases under half a second."""
    return ", ".join(f"{role} {duration:.0f} s" for role, duration in seconds.items() if duration >= 0.5) or "-"
