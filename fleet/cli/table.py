"""Format the reports of the verbs: columns, the order of names, sizes. Pure; called by the verbs."""

import re
from collections.abc import Sequence


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
