"""Decides when which node may be changed: census, order, budget of nodes out of service, canary, and what holds the others back.

Pure, for many threads: opens no connection and knows no Pulumi. Called by change_in_turns.py, which drains and gives back the nodes.
A waiting thread ends by itself when the run cannot go on: nothing but waiting requests for QUIET seconds.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleet import errors
from fleet.managed.standing import Standing

# Seconds without any request that is not waiting, after which the run has stopped; before the census, machines of a cloud may still be made.
QUIET, QUIET_BEFORE_CENSUS = 30.0, 3600.0
POLL = 0.2  # seconds between two looks of a waiting thread at its cancel


@dataclass(frozen=True)
class Change:
    """The stack's `glm-fleet:change`: how many nodes may be out of service, the canary's hold in seconds, the drain's bound in seconds.

    `requests` is the least number of requests in a hold; fewer make it inconclusive.
    """

    at_once: int = 1
    canary: bool = True
    hold: float = 60
    drain: float = 300
    requests: int = 0

    @classmethod
    def from_setting(cls, text: str) -> "Change":
        """Return the change in the provider's setting, JSON."""
        fields = json.loads(text)
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


class Turns:
    """The turns of one run. A node's turn lasts from `enter` to `passed` or `failed`; between its resources it keeps its place."""

    def __init__(self, change: Change, quiet: float = QUIET) -> None:
        self.change = change
        self._quiet = quiet
        self._changed = threading.Condition()
        self._order: list[str] | None = None  # None before the census
        self._standing: dict[str, Standing] = {}
        self._open: dict[str, None] = {}  # nodes in their turn
        self._ended: dict[str, bool] = {}  # nodes that no further change of this run concerns: whether they passed
        self._waiting: list[str] = []  # a name for each waiting thread
        self._reasons: list[str] = []  # that hold the others back
        self._working = 0  # requests that do not wait
        self._latest = time.monotonic()
        self._request_failed = False

    # --- what the program and the servicer report

    def take_census(self, order: Sequence[str], standing: Mapping[str, Standing]) -> None:
        """Begin the turns: `order` has the canary first."""
        with self._changed:
            self._order, self._standing = list(order), dict(standing)
            self._touch()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count a request in progress."""
        with self._changed:
            self._working += 1
            self._touch()
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._touch()

    def alive(self, failed: bool = False) -> None:
        """Record that the Pulumi engine has asked something, or that a request has `failed`: the run may then stop."""
        with self._changed:
            self._request_failed |= failed
            self._touch()

    def resolved(self, node: str, ok: bool) -> None:
        """Record that no further change of this run concerns the node; one that is not ok has not reached its end."""
        with self._changed:
            if node not in self._ended:
                self._ended[node] = ok
                if not ok and node == self.canary:
                    self._reasons.append(f"{node} failed")
            self._touch()

    # --- a node's turn

    @property
    def canary(self) -> str:
        """Return the first node in the order that can be changed and serve afterwards; "" without one."""
        able = (Standing.SERVES, Standing.BROKEN, Standing.UNFINISHED)
        return next((node for node in self._order or () if self.standing(node) in able), "")

    def standing(self, node: str) -> Standing:
        """Return how a node stands now; a node that the census does not name serves nothing."""
        return self._standing.get(node, Standing.NOTHING)

    @property
    def begun(self) -> bool:
        """Return whether there was a census: only a run with a program has one."""
        with self._changed:
            return self._order is not None

    def is_open(self, node: str) -> bool:
        """Return whether the node is in its turn."""
        with self._changed:
            return node in self._open

    def enter(self, node: str, note: Callable[[str], None], cancelled: threading.Event) -> bool:
        """Wait for the node's turn. Return whether it begins now: not for a node that is in its turn, and for one that serves nothing.

        `note` gets each reason to wait. Raises Cancelled, and FleetError for a node that is held back, for a used up budget and for a run
        that has stopped.
        """
        noted = ""
        with self._changed, self._wait_of(node):
            while obstacle := self._obstacle(node):
                if cancelled.is_set():
                    raise errors.Cancelled(node=node, doing="wait for its turn", seen="cancelled")
                if self._has_stopped():
                    raise self._cannot_go_on(node, obstacle)
                if obstacle != noted:
                    noted = obstacle
                    note(f"waits for its turn: {obstacle}")
                self._changed.wait(POLL)
            begins = node not in self._open and self.standing(node) is not Standing.NOTHING
            if begins:
                self._open[node] = None
            return begins

    def passed(self, node: str) -> None:
        """End a node's turn: it serves again, unless an operator has drained it."""
        with self._changed:
            self._end(node, True, self.standing(node) is not Standing.DRAINED)

    def failed(self, node: str, words: str, serves: bool) -> None:
        """End a node's turn and hold back the others; `serves`: the node is in rotation again. A dead node holds back nobody."""
        with self._changed:
            if self.standing(node) is not Standing.DEAD:
                self._reasons.append(f"{node} {words}")
            self._end(node, False, serves)

    def paused(self, node: str, words: str) -> None:
        """End the turn of a node that serves, and hold back the others: its verdict is inconclusive."""
        with self._changed:
            self._reasons.append(f"{node} {words}")
            self._end(node, True, True)

    # --- helpers, under the lock

    def _touch(self) -> None:
        self._latest = time.monotonic()
        self._changed.notify_all()

    def _end(self, node: str, ok: bool, serves: bool) -> None:
        self._open.pop(node, None)
        self._ended[node] = ok
        # A turn does not show that gateways reach a node which they did not reach before.
        if serves and self.standing(node) is not Standing.UNREACHED:
            self._standing[node] = Standing.SERVES
        elif not self.standing(node).out:
            self._standing[node] = Standing.BROKEN
        self._touch()

    @contextlib.contextmanager
    def _wait_of(self, node: str) -> Iterator[None]:
        """Count the caller's request as waiting."""
        self._waiting.append(node)
        self._working -= 1
        self._touch()
        try:
            yield
        finally:
            self._waiting.remove(node)
            self._working += 1
            self._touch()

    def _obstacle(self, node: str) -> str:
        """Return why the node must wait, "" if it need not. Raises FleetError for a node that cannot be changed in this run."""
        if node in self._open:
            return ""
        if self._order is None:
            return "the nodes are asked first who serves"
        standing = self.standing(node)
        if standing is Standing.NOTHING:
            return ""
        if self._reasons and standing is not Standing.DEAD:
            raise self._held_back(node)
        if standing.out:  # its change takes no further node out of service
            return ""
        if node != self.canary and not self._ended.get(self.canary):
            return f"{self.canary} goes first"
        out = self._out(node)
        if len(out) >= self.change.at_once:
            hopeless = [name for name in out if name not in self._open and self._stays_out(name)]
            if len(hopeless) >= self.change.at_once:
                raise self._used_up(node, hopeless)
            return f"{_are(out)} out of service (at_once is {self.change.at_once})"
        waiting = {name for name in self._waiting if self.standing(name) is Standing.SERVES}
        first = next((name for name in self._order if name in waiting), node)
        return "" if first == node else f"{first} goes first"

    def _out(self, node: str) -> list[str]:
        """Return the other nodes that are out of service or in their turn."""
        names = [name for name, standing in self._standing.items() if standing.out or name in self._open]
        return [name for name in names if name != node]

    def _stays_out(self, node: str) -> bool:
        return self.standing(node) is Standing.DEAD or node in self._ended

    def _has_stopped(self) -> bool:
        """Return whether the run cannot go on: nobody works, and the Pulumi engine asks nothing more."""
        early = self._order is None and not self._request_failed
        limit = max(QUIET_BEFORE_CENSUS, self._quiet) if early else self._quiet
        return self._working <= 0 and time.monotonic() - self._latest > limit

    def _held_back(self, node: str) -> errors.FleetError:
        return errors.FleetError(
            node=node,
            doing="held back",
            seen=", ".join(self._reasons),
            wanted="a change that has passed elsewhere before this node gets it",
            next=f"read what is said about {self._reasons[0].partition(' ')[0]}; `pulumi up` then begins with it again",
        )

    def _used_up(self, node: str, names: Sequence[str]) -> errors.FleetError:
        listed = ", ".join(f"{name} {self.standing(name)}" for name in names)
        return errors.FleetError(
            node=node,
            doing="not begun",
            seen=f"out of service already: {listed}",
            wanted=f"fewer than {self.change.at_once} (`at_once` of glm-fleet:change): a turn takes one node more out of service",
            next=f"bring {', '.join(names)} back, give it `state: absent`, or raise `at_once`; then `pulumi up`",
        )

    def _cannot_go_on(self, node: str, obstacle: str) -> errors.FleetError:
        """Return the error for a run that has stopped, or whose remaining nodes wait for each other."""
        begun_elsewhere = [name for name in self._out(node) if name not in self._open]
        if self._order is not None and not self._open and len(begun_elsewhere) >= self.change.at_once:
            return self._used_up(node, begun_elsewhere)
        return errors.FleetError(
            node=node,
            doing="held back",
            seen=f"the run has stopped while {obstacle}",
            wanted="its turn",
            next="correct what failed; then `pulumi up` goes on where this stopped",
        )


def _are(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
