"""Runs on the node, as root, by `python3 -I -`: write or remove the mark of the stack that owns it.

Called by owner.py with {do: "claim", file, record: baseline.py's, owner: {id, …}} or {do: "release", file, id}. Prints one line of JSON:
{owner: text of an existing mark, "" without one, gone: whether release removed ours}. Needs Python 3.10's standard library.
"""

import contextlib
import json
import os
import pathlib
import tempfile
from typing import Any

Facts = dict[str, Any]


def same(first: str, second: str) -> bool:
    """Return whether two names, each [[ORGANIZATION/]PROJECT/]STACK, agree in the parts that both have."""
    left, right = first.split("/"), second.split("/")
    common = min(len(left), len(right))
    return left[-common:] == right[-common:]


def parse(text: str) -> Facts:
    """Return the fields of a mark; {} if the text is malformed."""
    try:
        fields = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def text(path: pathlib.Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def claim(path: pathlib.Path, record: pathlib.Path, owner: Facts) -> str:
    """Write the mark, atomically, and return ""; return the text of an existing mark."""
    if path.exists():
        return text(path) or "?"  # an empty file also belongs to somebody
    folder = path.parent
    # An earlier release created the folder without a mark: then its record has no folder from before.
    created = not folder.exists() or parse(text(record)).get("files", {}).get(str(folder), "theirs") is None
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    number, name = tempfile.mkstemp(dir=folder, prefix=".owner-")
    draft = pathlib.Path(name)
    try:
        with os.fdopen(number, "w") as file:
            json.dump({**owner, "folder": "ours" if created else "theirs"}, file)
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
    """Remove our mark, and its folder if we created it and it is empty. Return the text of another mark, and whether ours was removed."""
    mark = text(path)
    owner = parse(mark)
    if not mark or not same(str(owner.get("id", "")), ours):
        return mark, False
    path.unlink()
    if owner.get("folder") == "ours":
        with contextlib.suppress(OSError):  # not empty
            path.parent.rmdir()
    return "", True


def main(request: Facts) -> None:
    path = pathlib.Path(request["file"])
    if request["do"] == "claim":
        mark, removed = claim(path, pathlib.Path(request["record"]), request["owner"]), False
    else:
        mark, removed = release(path, request["id"])
    print(json.dumps({"owner": mark, "gone": removed}))
