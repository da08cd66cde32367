"""Runs on the node, as root, by `python3 -I -`: writes down which stack owns it, or takes that off again; one line of JSON.

Called by owner.py, which appends main({do: "claim", file, record: baseline.py's, owner: {id, …}}) or main({do: "release", file, id}).
Says {owner: text of the file that is in the way, "" where none is, gone: whether ours was taken off}. Needs Python 3.10's standard library.
"""

import contextlib
import json
import os
import pathlib
import tempfile
from typing import Any

Facts = dict[str, Any]


def same(one: str, other: str) -> bool:
    """Whether two names are of one stack: [[ORGANIZATION/]PROJECT/]STACK each, compared as far as both say it."""
    left, right = one.split("/"), other.split("/")
    known = min(len(left), len(right))
    return left[-known:] == right[-known:]


def parsed(text: str) -> Facts:
    """What a marker holds; {} where it is no marker of ours."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def text(path: pathlib.Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def claim(path: pathlib.Path, record: pathlib.Path, owner: Facts) -> str:
    """Write the marker where there is none; return what is there instead. Whoever is first has the machine, whole or not at all."""
    if path.exists():
        return text(path) or "?"  # cut off, and somebody's all the same
    folder = path.parent
    # A record says what was there before our first change, which an earlier release made without a marker.
    made = not folder.exists() or parsed(text(record)).get("files", {}).get(str(folder), "theirs") is None
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    number, name = tempfile.mkstemp(dir=folder, prefix=".owner-")
    draft = pathlib.Path(name)
    try:
        with os.fdopen(number, "w") as file:
            json.dump({**owner, "folder": "ours" if made else "theirs"}, file)
            file.flush()
            os.fsync(number)
        draft.chmod(0o644)
        path.hardlink_to(draft)
    except FileExistsError:
        return text(path)
    finally:
        draft.unlink()
    return ""


def release(path: pathlib.Path, ours: str) -> tuple[str, bool]:
    """Take the marker off where it is ours, and its folder where we made it and nothing else is in it."""
    there = text(path)
    owner = parsed(there)
    if not there or not same(str(owner.get("id", "")), ours):
        return there, False
    path.unlink()
    if owner.get("folder") == "ours":
        with contextlib.suppress(OSError):  # something of somebody else is in it
            path.parent.rmdir()
    return "", True


def main(asked: Facts) -> None:
    path = pathlib.Path(asked["file"])
    if asked["do"] == "claim":
        there, gone = claim(path, pathlib.Path(asked["record"]), asked["owner"]), False
    else:
        there, gone = release(path, asked["id"])
    print(json.dumps({"owner": there, "gone": gone}))
