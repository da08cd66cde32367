"""What we keep of Ansible's events: one small dict each, as the supervisor writes them and converge and managed read them.

Needs nothing of Ansible: `distil` takes the events that ansible-runner hands over (facts of 2.4.3). Called by supervisor.
Shapes, all JSON:
    {"event": "task", "role", "task"}
    {"event": "ok"|"failed"|"unreachable"|"retry", "role", "task", "action", "item": bool, "ignored": bool, "res": {…}}
        an ok's res has "made" when it changed something that was not there before, "new": [packages] of apt
        a retry's res is {"said": what the poll printed last}; a set_stats' has "results": its data, and "aggregate": bool
    {"event": "stats", "changed": n, "ok": n, "hosts": n}
    {"event": "end", "status", "rc", "cancelled": bool, "tail": [last lines outside of tasks]}
"""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

Event = dict[str, Any]

KINDS = {
    "runner_on_ok": "ok",
    "runner_item_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_item_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_retry": "retry",
}
# Of a result: what names a managed thing, and what tells a failure. Of its arguments: names only, never content.
RESULT = ("changed", "path", "dest", "state", "name", "key_filename", "rc", "msg", "censored", "reason")
ARGUMENTS = ("name", "package", "pkg", "state", "path", "dest", "sysctl_file", "enabled", "deb", "key", "selection")
# The action that tells a run's results. It runs on the controller; Ansible itself takes `ansible_stats` of any module's answer, a node's too.
SET_STATS = "ansible.builtin.set_stats"
TEXT = ("stdout", "stderr", "module_stdout", "module_stderr")
TAIL, MANY = 4000, 5000


def distil(raw: Mapping[str, Any]) -> Event | None:
    """Return our form of one event of ansible-runner, or None when nothing of it is needed."""
    kind, data = str(raw.get("event")), raw.get("event_data") or {}
    place = {"role": data.get("role") or "", "task": data.get("task") or ""}
    if kind == "playbook_on_task_start":
        return {"event": "task", **place}
    if kind == "playbook_on_stats":
        return {
            "event": "stats",
            "changed": sum((data.get("changed") or {}).values()),
            "ok": sum((data.get("ok") or {}).values()),
            "hosts": len(data.get("processed") or {}),
        }
    if kind not in KINDS:
        return None
    res = _mapping(data.get("res"))
    action = data.get("resolved_action") or data.get("task_action") or ""
    return {
        "event": "unreachable" if res.get("unreachable") else KINDS[kind],  # of an item Ansible says it there only
        **place,
        "action": action,
        "item": "_item_" in kind,
        "ignored": bool(data.get("ignore_errors")),
        "res": {"said": _said(res)} if kind == "runner_retry" else _result(res, action, told=KINDS[kind] != "ok"),
    }


def _result(res: Mapping[str, Any], action: str, told: bool) -> dict[str, Any]:
    kept = {key: _cut(res[key]) for key in RESULT if key in res}
    if res.get("changed"):
        kept["made"] = _made(res)
        if action.endswith(".apt"):
            kept["new"] = _new_packages(str(res.get("stdout") or ""))
    given = _mapping(_mapping(res.get("invocation")).get("module_args"))
    if named := {key: _cut(given[key]) for key in ARGUMENTS if given.get(key) is not None}:
        kept["args"] = named
    if isinstance(res.get("results"), list):
        kept["loop"] = len(res["results"])
    if action == SET_STATS:
        stats = _mapping(res.get("ansible_stats"))
        kept |= {"results": dict(_mapping(stats.get("data"))), "aggregate": bool(stats.get("aggregate"))}
    if told:
        kept |= {key: str(res[key])[-TAIL:] for key in TEXT if res.get(key)}
    return kept


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping, an empty one for what a node has put in the place of one."""
    return value if isinstance(value, Mapping) else {}


def _cut(value: Any) -> Any:
    """Return a value with its text cut at TAIL characters, its list at MANY entries; a module of ours gives no other types."""
    if isinstance(value, list | tuple):
        return [str(one)[:TAIL] for one in value[:MANY]]
    return value if isinstance(value, bool | int | float) or value is None else str(value)[:TAIL]


def _made(res: Mapping[str, Any]) -> bool:
    """Whether a changed file, folder or link was not there before: its diff (runs have diff on) begins with nothing."""
    diff = res.get("diff") or []
    for entry in diff if isinstance(diff, list) else [diff]:
        before = entry.get("before") if isinstance(entry, Mapping) else None
        if before == "" or (isinstance(before, Mapping) and before.get("state") == "absent"):
            return True
    return False


def _new_packages(stdout: str) -> list[str]:
    """Return what apt says it installs anew, dependencies too; a package that was there before is not ours."""
    _, _, after = stdout.partition("The following NEW packages will be installed:\n")
    found: list[str] = []
    for line in after.splitlines():
        if not line.startswith(" "):
            break
        found += line.split()
    return found


def _said(res: Mapping[str, Any]) -> str:
    """Return what a poll said last: the `text` of JSON output, else its last line."""
    lines = str(res.get("stdout") or res.get("stderr") or "").strip().splitlines()
    last = lines[-1][:TAIL] if lines else ""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(last)["text"])
    return last
