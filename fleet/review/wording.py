"""The words of a report's lines that several topics share: names, versions, text of a file or a node.

Pure. In a line, text between two of MARK comes from a file or a node: a form shows it as it is, and never interprets it.
Called by outline.py and folds.py.
"""

from collections.abc import Iterable, Iterator, Sequence

from fleet import printable
from fleet.review.report import Report

MARK = "\0"
SHOWN_NAMES = 6
WIDTH = 160  # characters of one text of a file or a node


def versions(report: Report) -> Iterator[str]:
    """Yield each version that moves, with how many nodes move alike."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for change in report.prediction.versions:
        groups.setdefault((change.name, change.old, change.new), []).append(change.node)
    for (name, old, new), those in groups.items():
        yield f"{name} {quoted(short(old), 60)} -> {quoted(short(new), 60)} on {nodes(those)}"


def short(value: str) -> str:
    """Return a version as a reviewer compares it: of a digest or a commit the first characters."""
    head, at, digest = value.partition("@sha256:")
    if at:
        return f"{head.rpartition('/')[2]}@{digest[:12]}"
    return value[:12] if len(value) == 40 else value or "none"


def nodes(those: Sequence[str]) -> str:
    """Return the names of nodes, or how many they are."""
    return ", ".join(those) if len(those) <= SHOWN_NAMES else f"{len(those)} nodes"


def names(those: Iterable[str], most: int = SHOWN_NAMES) -> str:
    """Return the first names, and how many more there are."""
    those = [*those]
    return ", ".join(those) if len(those) <= most else f"{', '.join(those[:most])} and {len(those) - most} more"


def quoted(text: str, width: int = WIDTH) -> str:
    """Return one line of a text of a file or a node, between two of MARK."""
    text = printable.plain(" ".join(text.replace(MARK, "").split()))
    return f"{MARK}{text if len(text) <= width else f'{text[: width - 3]}...'}{MARK}"


def verbatim(line: str) -> str:
    """Return a line of a file with its spaces, between two of MARK."""
    text = printable.plain(line.replace(MARK, ""))
    return f"{MARK}{text if len(text) <= WIDTH else f'{text[: WIDTH - 3]}...'}{MARK}"
