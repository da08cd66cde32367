"""Reduces Ansible's events to small dicts, which the supervisor writes and converge, progress and declarations read.

Needs no Ansible: `distil` takes the events that ansible-runner hands over (shape of 2.4.3). Called by supervisor.
Shapes, all JSON:
    {"event": "task", "role", "task"}
    {"event": "ok"|"failed"|"unreachable"|"retry", "role", "task", "action", "item": bool, "ignored": bool, "res": {…}}
        the res of a change has "made": bool (the thing did not exist before), of apt also "new": [packages]
        the res of a retry is {"said": last line that the poll printed}; of set_stats it has "results": its data, and "aggregate": bool
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
# Keys to keep of a result: names of managed things, and reasons of failures. Of its arguments: names only, never content.
RESULT = ("changed", "path", "dest", "state", "name", "key_filename", "rc", "msg", "censored", "reason")
ARGUMENTS = ("name", "package", "pkg", "state", "path", "dest", "sysctl_file", "enabled", "deb", "key", "selection")
# The only action whose results count: it runs on the controller. Ansible itself takes `ansible_stats` of any module's answer, a node's too.
SET_STATS = "ansible.builtin.set_stats"
TEXT = ("stdout", "stderr", "module_stdout", "module_stderr")
TAIL, MANY = 4000, 5000


def distil(raw: Mapping[str, Any]) -> Event | None:
    """Return our form of one event of ansible-runner, None for an event that nothing here uses."""
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
        "event": "unreachable" if res.get("unreachable") else KINDS[kind],  # of an item only the result has it
        **place,
        "action": action,
        "item": "_item_" in kind,
        "ignored": bool(data.get("ignore_errors")),
        "res": {"said": _last_line(res)} if kind == "runner_retry" else _result(res, action, text=KINDS[kind] != "ok"),
    }


def _result(res: Mapping[str, Any], action: str, text: bool) -> dict[str, Any]:
    """Return the keys of a result that we use; with `text` also what its command printed."""
    essence = {key: _cut(res[key]) for key in RESULT if key in res}
    if res.get("changed"):
        essence["made"] = _created(res)
        if action.endswith(".apt"):
            essence["new"] = _new_packages(str(res.get("stdout") or ""))
    module_args = _mapping(_mapping(res.get("invocation")).get("module_args"))
    if args := {key: _cut(module_args[key]) for key in ARGUMENTS if module_args.get(key) is not None}:
        essence["args"] = args
    if isinstance(res.get("results"), list):
        essence["loop"] = len(res["results"])
    if action == SET_STATS:
        stats = _mapping(res.get("ansible_stats"))
        essence |= {"results": dict(_mapping(stats.get("data"))), "aggregate": bool(stats.get("aggregate"))}
    if text:
        essence |= {key: str(res[key])[-TAIL:] for key in TEXT if res.get(key)}
    return essence


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return the value, or an empty mapping where a node sent something else."""
    return value if isinstance(value, Mapping) else {}


def _cut(value: Any) -> Any:
    """Return a value with its text cut at TAIL characters, its list at MANY entries; our modules return no other types."""
    if isinstance(value, list | tuple):
        return [str(entry)[:TAIL] for entry in value[:MANY]]
    return value if isinstance(value, bool | int | float) or value is None else str(value)[:TAIL]


def _created(res: Mapping[str, Any]) -> bool:
    """Return whether a changed file, folder or link did not exist before: its diff, which runs ask for, starts from nothing."""
    diff = res.get("diff") or []
    for entry in diff if isinstance(diff, list) else [diff]:
        before = entry.get("before") if isinstance(entry, Mapping) else None
        if before == "" or (isinstance(before, Mapping) and before.get("state") == "absent"):
            return True
    return False


def _new_packages(stdout: str) -> list[str]:
    """Return the packages that apt lists as new, dependencies included; one that was installed before is not ours."""
    _, _, after = stdout.partition("The following NEW packages will be installed:\n")
    packages: list[str] = []
    for line in after.splitlines():
        if not line.startswith(" "):
            break
        packages += line.split()
    return packages


def _last_line(res: Mapping[str, Any]) -> str:
    """Return the last line that a poll printed; of JSON its `text`."""
    lines = str(res.get("stdout") or res.get("stderr") or "").strip().splitlines()
    last = lines[-1][:TAIL] if lines else ""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(last)["text"])
    return last
