"""Collects what a run declared on a host from its events: files, units, packages, settings, users. No role registers anything.

Knows the modules that roles use, and which keys of their results hold names. Called by converge.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fleet.ansible.events import Event
from fleet.managed.managed_set import Declared

_PATH_MODULES = {
    *("copy", "template", "file", "lineinfile", "blockinfile", "replace", "assemble", "get_url", "ini_file"),
    "deb822_repository",
}


def collect(events: Iterable[Event]) -> Declared:
    """Return what the events of a run declare, changed or not. A task with no_log declares nothing.

    The ansible.builtin.file task after such a task names its files, which count as created by us: their earlier content is hidden, and a
    secret must not stay behind.
    """
    things: dict[str, bool] = {}
    hides = hidden = False  # whether this task has no_log, and whether the one before it had
    for event in events:
        if event["event"] == "task":
            hides, hidden = False, hides
        res = event.get("res") or {}
        if event["event"] != "ok" or "loop" in res:  # each item of a loop has its own event
            continue
        module, args = str(event["action"]).rsplit(".", 1)[-1], res.get("args") or {}
        for kind, name in _names(module, res, args):
            created = _created(kind, name, res, args) or (hidden and module == "file" and res.get("state") == "file")
            things[f"{kind} {name}"] = things.get(f"{kind} {name}", False) or created
        hides = hides or "censored" in res
    return Declared(things)


def _created(kind: str, name: str, res: Mapping[str, Any], args: Mapping[str, Any]) -> bool:
    """Return whether the thing did not exist before this result (a unit: was off)."""
    if kind == "package":
        return name.split(":")[0] in (res.get("new") or ())
    if kind == "unit":
        return bool(res.get("changed")) and args.get("state") not in ("restarted", "reloaded", "stopped")
    if kind == "file" and "sysctl_file" in args:
        return bool(res.get("changed")) and name != "/etc/sysctl.conf"
    return bool(res.get("made" if kind == "file" else "changed"))


def _names(module: str, res: Mapping[str, Any], args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of everything that one result of a module declares."""
    if module in _PATH_MODULES:
        if path := res.get("dest") or res.get("path") or args.get("dest") or args.get("path"):
            yield "file", str(path)
        if res.get("key_filename"):
            yield "file", str(res["key_filename"])
    elif module in ("apt", "package", "dpkg_selections"):
        for key in ("name", "package", "pkg"):
            packages = args.get(key) or ()
            for names in packages if isinstance(packages, list) else [packages] if packages else ():
                for package in str(names).split(","):
                    yield "package", package.split("=")[0].split("/")[0].strip()
    elif module in ("systemd_service", "systemd", "service"):
        if name := str(args.get("name") or ""):
            yield "unit", name if "." in name else f"{name}.service"
    elif module == "sysctl" and args.get("name"):
        yield "sysctl", str(args["name"])
        yield "file", str(args.get("sysctl_file") or "/etc/sysctl.conf")
    elif module in ("user", "group") and args.get("name"):
        yield module, str(args["name"])
