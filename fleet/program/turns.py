"""Tells the provider, in an update, who takes part in its turns: the census once all nodes are resolved, and each node whose Serving, or Member, is.

Called by `__main__.py`. In a preview there are no turns. The provider's side is fleet/provider/change_in_turns.py.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from fleet import resources
from fleet.stack import settings


def follow(
    provider: pulumi.ProviderResource,
    order: Sequence[str],
    nodes: Mapping[str, resources.Node],
    last: Mapping[str, resources.Serving] | Mapping[str, resources.Member],
    planes: Sequence[str] = (),
) -> None:
    """Let the provider ask the nodes who serves, and report each node that has reached its end: that of its `last` resource.

    `order` has the canary first, and is empty in a stack without turns: then no node has one. The provider waits for the census before the first
    turn. The program ends with these calls; one with an error makes the update fail. Of a cluster of own machines the provider asks one of the
    `planes` about all of them.
    """
    options = pulumi.InvokeOptions(provider=provider)

    async def call(function: str, arguments: Mapping[str, Any], beside: pulumi.Resource | None) -> Mapping[str, Any]:
        urn = await beside.urn.future() if beside else ""
        result = await pulumi.runtime.invoke_async(f"fleet:index:{function}", {**arguments, "beside": urn}, options)
        return result if isinstance(result, Mapping) else {}

    async def census() -> bool:
        connections = {name: await _value(nodes[name].connection) for name in order}
        reached = {name: connection for name, connection in connections.items() if connection}
        arguments = {"order": list(order), "nodes": reached, **({"planes": list(planes)} if planes else {})}
        await call("census", arguments, pulumi.runtime.get_root_resource())
        return True

    async def passed(name: str, asked: "asyncio.Future[bool]") -> bool:
        resource = last[name]
        ok = await _value(resource.replicas if isinstance(resource, resources.Serving) else resource.part) is not None
        await asked
        if error := (await call("passed", {"node": name, "ok": ok}, resource)).get("error"):
            pulumi.log.error(error, resource)
        return True

    if not pulumi.runtime.is_dry_run():
        asked = asyncio.ensure_future(census())
        pulumi.Output.all(asked, *(passed(name, asked) for name in last))  # as an output: the program waits for it


async def _value(output: pulumi.Output[Any]) -> Any:
    """Return an output's value, None for one that a failure left unknown."""
    return await output.future() if await output.is_known() else None


def setting(stack: settings.Settings) -> dict[str, str]:
    """Return the provider's setting `change` as its input; {} where the stack has the defaults, which the provider knows."""
    return {} if stack.change == type(stack.change)() else {"change": json.dumps(stack.change.model_dump())}


def order(names: Sequence[str], builders: Sequence[str]) -> list[str]:
    """Return the machines that serve with the canary first: the builder of the image if there is one for all, else the first machine."""
    first = list(builders) if len(builders) == 1 and builders[0] in names else []
    return [*first, *(name for name in names if name not in first)]
