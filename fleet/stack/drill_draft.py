"""The configurations that a drill deploys for a while, from a stack's own: one that releases a machine, one in which it is absent. Pure.

The stack file stays as it is. Called by `fleet drill`.
"""

import copy
import datetime
from collections.abc import Mapping
from typing import Any

from fleet import errors
from fleet.stack import settings

WHY = "a drill sets it up again"
# Policies that a fleet without one of its machines may break for an hour.
POLICIES = ("gateways-in-production",)
RELEASE, WAIVERS, GATEWAY, NODES = (f"glm-fleet:{key}" for key in ("release", "waivers", "gateway", "nodes"))


def refuse(loaded: settings.Settings, node: str) -> None:
    """Raise FleetError for a stack that a drill cannot change, and for a machine without which the fleet cannot be deployed."""
    if loaded.cluster:
        raise _refusal(node, "it is a member of a cluster", "a stack whose machines serve models themselves")
    if loaded.review:
        raise _refusal(
            node,
            "only `fleet apply` changes this stack",
            "a stack without glm-fleet:review for the drill (docs/drill.md)",
        )
    if node not in loaded.serving:
        serving = ", ".join(loaded.serving) or "a stack with machines"
        near = errors.nearest(node, loaded.serving)
        raise _refusal(node, "it is no machine that serves", serving, f"did you mean {near}?" if near else "")
    if len(loaded.serving) == 1:
        raise _refusal(node, "it is the only machine that serves", "a fleet that serves meanwhile")
    if loaded.vars.get("transformers_registry") and loaded.builder == node:
        others = [name for name in loaded.serving if name != node]
        raise _refusal(
            node, "it builds the image", f"one of {', '.join(others)}", "or `builder` of glm-fleet:nodes names another"
        )
    if loaded.gateway and list(loaded.gateway.nodes) == [node]:
        raise _refusal(node, "it is the only gateway", "a second one in glm-fleet:gateway.nodes")


def _refusal(node: str, seen: str, wanted: str, todo: str = "") -> errors.FleetError:
    return errors.FleetError(node=node, doing="drill", seen=seen, wanted=wanted, next=todo)


def released(content: Mapping[str, Any], node: str) -> dict[str, Any]:
    """Return a stack file's content that lets Pulumi delete the machine."""
    draft = copy.deepcopy(dict(content))
    config = draft["config"]
    config[RELEASE] = {**(config.get(RELEASE) or {}), node: WHY}
    return draft


def absent(
    content: Mapping[str, Any], node: str, machines: Mapping[str, Mapping[str, Any]], today: datetime.date
) -> dict[str, Any]:
    """Return a stack file's content without the machine. `machines` has the content of each separate file of machines, by its name."""
    draft = released(content, node)
    config = draft["config"]
    pools = config[NODES] if isinstance(config[NODES], list) else [config[NODES]]
    for pool in pools:
        if isinstance(pool.get("machines"), str):
            pool["machines"] = copy.deepcopy(dict(machines[pool["machines"]]))
        if node in (pool.get("machines") or {}):
            pool["machines"][node] = {**(pool["machines"][node] or {}), "state": "absent"}
    if gateway := config.get(GATEWAY):
        gateway["nodes"] = [name for name in gateway["nodes"] if name != node]
        last = (today + datetime.timedelta(days=1)).isoformat()
        waivers = {name: {"reason": WHY, "expires": last} for name in POLICIES}
        config[WAIVERS] = {**waivers, **(config.get(WAIVERS) or {})}
    return draft
