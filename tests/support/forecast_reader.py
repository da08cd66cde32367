"""Reads what a preview predicts for one node from its last lines, and compares it with what happened.

Pure. Owns the reading of fleet.impact.forecast's lines, which users read too. Called by testbed.py and tests/unit/test_suite_change_table.py.
"""

import dataclasses
import re
from collections.abc import Collection

from tests.support.node_changes import Changes

LINE = re.compile(
    r"(?P<may>may )?(?P<level>reboot|restart|start|stop|reload|nothing restarts|repair what drifted, nothing restarts|"
    r"await the replicas and probe them again|set up|replace)"
    r"(?: (?P<whom>.+?))?(?:, about [^:]*|, not measured yet|, in the same run)?(?:: (?P<why>.*))?"
)
EVERY_REPLICA = " and every replica"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One line about the node: what will happen, or (`may`) the worst that can."""

    level: str
    may: bool
    whom: tuple[str, ...]
    why: str


def predictions(preview: str, node: str) -> list[Prediction]:
    """Read the lines about `node` at the end of the preview. Raises AssertionError for one that it cannot read."""
    end = re.split(r"\n(?:Outputs|Resources):\n", preview.partition("\nDiagnostics:\n")[2])[0]
    predictions = []
    for line in end.splitlines():
        nodes, colon, effect = line.strip().partition(": ")
        if colon and node in nodes.split(", "):
            parts = LINE.fullmatch(effect)
            assert parts, f"no line of a forecast: {line}"
            whom = tuple((parts["whom"] or "").split(", ")) if parts["whom"] else ()
            predictions.append(Prediction(parts["level"], bool(parts["may"]), whom, parts["why"] or ""))
    return predictions


def mismatches(predictions: Collection[Prediction], changes: Changes, replicas: Collection[str]) -> list[str]:
    """Return in words what was foretold and did not happen, or happened and was not foretold; nothing where both agree.

    `replicas` are the names of "every replica".
    """
    sure, worst = (_sum(predictions, replicas, surely) for surely in (True, False))
    hits: dict[str, Collection[str]] = {"reboot": {"the node"} if changes.rebooted else set()}
    if not changes.rebooted:  # a reboot hides everything else
        hits |= {"restart": changes.restarted, "reload": changes.reloaded}
    texts = [_mismatch(level, hit, sure[level], worst[level]) for level, hit in hits.items()]
    return [text for text in texts if text]


def _mismatch(level: str, hit: Collection[str], sure: set[str], worst: set[str]) -> str:
    missing, more = sorted(sure - {*hit}), sorted({*hit} - sure - worst)
    parts = [f"foretold, and did not happen: {level} {', '.join(missing)}"] if missing else []
    parts += [f"happened, and was not foretold: {level} {', '.join(more)}"] if more else []
    return "; ".join(parts)


def _sum(predictions: Collection[Prediction], replicas: Collection[str], surely: bool) -> dict[str, set[str]]:
    """Return {level: units that it hits} over all lines that are sure, or that are not."""
    units: dict[str, set[str]] = {"reboot": set(), "restart": set(), "reload": set()}
    for prediction in predictions:
        level = "restart" if prediction.level in ("start", "stop") else prediction.level  # a unit's run begins, or ends
        if level in units and prediction.may is not surely:
            units[level] |= {"the node"} if level == "reboot" else _units(prediction.whom, replicas)
    return units


def _units(whom: Collection[str], replicas: Collection[str]) -> set[str]:
    """Return the units of what a line names: a unit, a replica, or `docker.service and every replica`."""
    units = set()
    for words in whom:
        name = words.removesuffix(EVERY_REPLICA)
        units |= {f"{replica}.service" for replica in replicas} if name != words else set()
        units.add(name if name.endswith(".service") else f"{name}.service")
    return units
