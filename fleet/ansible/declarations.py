"""What a run declared of a host, collected from its events: files, units, packages, settings, users. No role registers anything.

Knows the modules that roles use, and what their results name. Called by converge.
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

    The file of such a task is named by the ansible.builtin.file task that follows it, and counts as made by us: what it was
    before is hidden, and a secret must not stay behind.
    """
    things: dict[str, bool] = {}
    hidden = False
    for event in events:
        res = event.get("res") or {}
        if event["event"] != "ok" or "loop" in res:  # the items of a loop are events of their own
            continue
        module, args = str(event["action"]).rsplit(".", 1)[-1], res.get("args") or {}
        for kind, name in _named(module, res, args):
            made = _made(kind, name, res, args) or (hidden and module == "file" and res.get("state") == "file")
            things[f"{kind} {name}"] = things.get(f"{kind} {name}", False) or made
        hidden = "censored" in res
    return Declared(things)


def _made(kind: str, name: str, res: Mapping[str, Any], args: Mapping[str, Any]) -> bool:
    """Whether this result says that the thing was not there (or, of a unit, not on) before."""
    if kind == "package":
        return name.split(":")[0] in (res.get("new") or ())
    if kind == "unit":
        return bool(res.get("changed")) and args.get("state") not in ("restarted", "reloaded", "stopped")
    if kind == "file" and "sysctl_file" in args:
        return bool(res.get("changed")) and name != "/etc/sysctl.conf"
    return bool(res.get("made" if kind == "file" else "changed"))


def _named(module: str, res: Mapping[str, Any], args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of everything that one result of a module declares."""
    if module in _PATH_MODULES:
        if path := res.get("dest") or res.get("path") or args.get("dest") or args.get("path"):
            yield "file", str(path)
        if res.get("key_filename"):
            yield "file", str(res["key_filename"])
    elif module in ("apt", "package", "dpkg_selections"):
        for key in ("name", "package", "pkg"):
            given = args.get(key) or ()
            for name in given if isinstance(given, list) else [given] if given else ():
                for one in str(name).split(","):
                    yield "package", one.split("=")[0].split("/")[0].strip()
    elif module in ("systemd_service", "systemd", "service"):
        if name := str(args.get("name") or ""):
            yield "unit", name if "." in name else f"{name}.service"
    elif module == "sysctl" and args.get("name"):
        yield "sysctl", str(args["name"])
        yield "file", str(args.get("sysctl_file") or "/etc/sysctl.conf")
    elif module in ("user", "group") and args.get("name"):
        yield module, str(args["name"])
