"""What a preview foretells for one node, read out of the lines that it ends with, and whether that is what happened.

Pure. Owns the reading of fleet.impact.forecast's lines, which users read too. Called by testbed.py and tests/unit/test_suite_change_table.py.
"""

import dataclasses
import re
from collections.abc import Collection

from tests.support.node_changes import Happened

LINE = re.compile(
    r"(?P<may>may )?(?P<level>reboot|restart|start|stop|reload|nothing restarts|repair what drifted, nothing restarts|"
    r"await the replicas and probe them again|set up|replace)"
    r"(?: (?P<whom>.+?))?(?:, about [^:]*|, not measured yet|, in the same run)?(?:: (?P<why>.*))?"
)
EVERY_REPLICA = " and every replica"


@dataclasses.dataclass(frozen=True)
class Foretold:
    """One line about the node: what will happen, or (`may`) what is the worst that can."""

    level: str
    may: bool
    whom: tuple[str, ...]
    why: str


def foretold(preview: str, node: str) -> list[Foretold]:
    """Read the lines about `node` among those that the preview ends with; AssertionError for one that cannot be read."""
    ended = re.split(r"\n(?:Outputs|Resources):\n", preview.partition("\nDiagnostics:\n")[2])[0]
    found = []
    for line in ended.splitlines():
        who, colon, does = line.strip().partition(": ")
        if colon and node in who.split(", "):
            read = LINE.fullmatch(does)
            assert read, f"no line of a forecast: {line}"
            whom = tuple((read["whom"] or "").split(", ")) if read["whom"] else ()
            found.append(Foretold(read["level"], bool(read["may"]), whom, read["why"] or ""))
    return found


def wrong(told: Collection[Foretold], seen: Happened, replicas: Collection[str]) -> list[str]:
    """Return in words what was foretold and did not happen, or happened and was not foretold; nothing where both agree.

    `replicas` are the names that "every replica" stands for.
    """
    sure, worst = (_sum(told, replicas, surely) for surely in (True, False))
    found = [_one("reboot", {"the node"} if seen.rebooted else set(), sure["reboot"], worst["reboot"])]
    if not seen.rebooted:  # of a machine that came up anew nothing else can be told
        found += [
            _one(level, hit, sure[level], worst[level])
            for level, hit in (("restart", seen.restarted), ("reload", seen.reloaded))
        ]
    return [text for text in found if text]


def _one(level: str, hit: Collection[str], sure: set[str], worst: set[str]) -> str:
    missing, more = sorted(sure - {*hit}), sorted({*hit} - sure - worst)
    parts = [f"foretold, and did not happen: {level} {', '.join(missing)}"] if missing else []
    parts += [f"happened, and was not foretold: {level} {', '.join(more)}"] if more else []
    return "; ".join(parts)


def _sum(told: Collection[Foretold], replicas: Collection[str], surely: bool) -> dict[str, set[str]]:
    """Return {level: units that it hits} over all lines that are sure, or that are not."""
    found: dict[str, set[str]] = {"reboot": set(), "restart": set(), "reload": set()}
    for one in told:
        level = "restart" if one.level in ("start", "stop") else one.level  # a unit's run begins, or ends
        if level in found and one.may is not surely:
            found[level] |= {"the node"} if level == "reboot" else _units(one.whom, replicas)
    return found


def _units(whom: Collection[str], replicas: Collection[str]) -> set[str]:
    """Return the units of what a line names: a unit, a replica, or `docker.service and every replica`."""
    found = set()
    for one in whom:
        name = one.removesuffix(EVERY_REPLICA)
        found |= {f"{replica}.service" for replica in replicas} if name != one else set()
        found.add(name if name.endswith(".service") else f"{name}.service")
    return found
