"""Turns: which node may be changed when. Each test is a run of several threads, without a node.

A thread that must wait has said so before the test goes on: no test waits for a time, except for a run that has stopped.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures

import pytest

from fleet import errors
from fleet.managed.standing import Standing
from fleet.provider.turns import QUIET, Change, Turns

PATIENCE = 10.0
SERVES, NOTHING, BROKEN, UNREACHED = Standing.SERVES, Standing.NOTHING, Standing.BROKEN, Standing.UNREACHED
UNFINISHED, DRAINED, DEAD = Standing.UNFINISHED, Standing.DRAINED, Standing.DEAD


class Run:
    """The turns of nodes a, b, c …, each change in a thread of its own, as the Pulumi engine requests them."""

    def __init__(self, at_once: int = 1, quiet: float = QUIET) -> None:
        self.turns = Turns(Change(at_once=at_once), quiet)
        self.cancelled = threading.Event()
        self._pool = futures.ThreadPoolExecutor(16)
        self._notes: dict[str, list[str]] = {}
        self._noted = threading.Condition()

    def census(self, order: str = "abc", **standing: Standing) -> None:
        self.turns.take_census([*order], {name: standing.get(name, SERVES) for name in order})

    def begin(self, node: str) -> "futures.Future[bool]":
        """Request a change; return the future of its `enter`, whose request goes on for the whole run."""

        def work() -> bool:
            with self.turns.request():
                return self.turns.enter(node, lambda text: self._note(node, text), self.cancelled)

        return self._pool.submit(work)

    def waits(self, node: str, text: str) -> "futures.Future[bool]":
        """Request a change that must wait for this reason."""
        future = self.begin(node)
        self.hear(node, text)
        assert not future.done()
        return future

    def hear(self, node: str, text: str) -> None:
        """Wait until the node's thread notes this reason."""
        line = f"waits for its turn: {text}"
        with self._noted:
            assert self._noted.wait_for(lambda: line in self._notes.get(node, ()), PATIENCE), self._notes

    def goes(self, node: str) -> bool:
        return self.begin(node).result(PATIENCE)

    def close(self) -> None:
        self.cancelled.set()
        self._pool.shutdown()

    def _note(self, node: str, text: str) -> None:
        with self._noted:
            self._notes.setdefault(node, []).append(text)
            self._noted.notify_all()


Make = Callable[..., Run]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make runs; their threads end with the test."""
    made: list[Run] = []

    def run(at_once: int = 1, quiet: float = QUIET) -> Run:
        made.append(Run(at_once, quiet))
        return made[-1]

    yield run
    for each in made:
        each.close()


def refusal(future: "futures.Future[bool]") -> str:
    """Return the message of a change that must not begin."""
    with pytest.raises(errors.FleetError) as caught:
        future.result(PATIENCE)
    return str(caught.value)


def test_a_change_waits_for_the_census(make: Make) -> None:
    run = make()
    first = run.waits("a", "the nodes are asked first who serves")
    run.census()
    assert first.result(PATIENCE)


def test_the_canary_goes_first_and_the_others_follow_in_order_one_at_a_time(make: Make) -> None:
    run = make()
    run.census()
    last, second = run.waits("c", "a goes first"), run.waits("b", "a goes first")
    assert run.goes("a")
    run.turns.passed("a")
    assert second.result(PATIENCE)
    run.hear("c", "b is out of service (at_once is 1)")
    run.turns.passed("b")
    assert last.result(PATIENCE)


def test_after_the_canary_two_at_once_are_two(make: Make) -> None:
    run = make(at_once=2)
    run.census("abcd")
    waiting = {name: run.waits(name, "a goes first") for name in "bcd"}
    assert run.goes("a")
    run.turns.passed("a")
    assert waiting["b"].result(PATIENCE) and waiting["c"].result(PATIENCE)
    run.hear("d", "b, c are out of service (at_once is 2)")
    run.turns.passed("b")
    assert waiting["d"].result(PATIENCE)


def test_a_canary_without_a_change_passes_when_its_last_resource_is_resolved(make: Make) -> None:
    run = make()
    run.census()
    second = run.waits("b", "a goes first")
    run.turns.resolved("a", True)
    assert second.result(PATIENCE)


def test_a_failed_canary_holds_the_others_back(make: Make) -> None:
    run = make()
    run.census()
    waiting = [run.waits(name, "a goes first") for name in "bc"]
    assert run.goes("a")
    run.turns.failed("a", "failed", serves=True)
    assert refusal(waiting[0]) == (
        "b: held back: a failed\n"
        "  wanted: a change that has passed elsewhere before this node gets it\n"
        "  next:   read what is said about a; `pulumi up` then begins with it again"
    )
    assert refusal(waiting[1]).startswith("c: held back: a failed\n")
    assert refusal(run.begin("b")).startswith("b: held back: a failed\n"), "a later one, too"


def test_a_canary_that_does_not_reach_its_end_holds_the_others_back(make: Make) -> None:
    run = make()
    run.census()
    second = run.waits("b", "a goes first")
    run.turns.resolved("a", False)
    assert refusal(second).startswith("b: held back: a failed\n")


def test_another_node_that_does_not_reach_its_end_without_a_turn_holds_nobody_back(make: Make) -> None:
    run = make()
    run.census()
    run.turns.resolved("b", False)
    run.turns.resolved("a", True)
    assert run.goes("c")


def test_a_pause_holds_the_others_back(make: Make) -> None:
    run = make()
    run.census()
    assert run.goes("a")
    run.turns.paused("a", "is inconclusive")
    assert refusal(run.begin("b")).startswith("b: held back: a is inconclusive\n")


def test_two_nodes_that_fail_at_once_are_both_named(make: Make) -> None:
    run = make(at_once=2)
    run.census("abcd")
    run.turns.resolved("a", True)
    assert run.goes("b") and run.goes("c")
    run.turns.failed("b", "failed", serves=True)
    run.turns.failed("c", "failed", serves=False)
    assert refusal(run.begin("d")).startswith("d: held back: b failed, c failed\n")


@pytest.mark.parametrize("standing", [DEAD, DRAINED, NOTHING])
def test_a_first_node_that_cannot_be_the_canary_leaves_it_to_the_next(make: Make, standing: Standing) -> None:
    run = make(at_once=2)
    run.census(a=standing)
    last = run.waits("c", "b goes first")
    assert run.goes("b")
    run.turns.passed("b")
    assert last.result(PATIENCE)


def test_all_resources_of_a_node_share_its_turn(make: Make) -> None:
    run = make()
    run.census()
    assert [run.goes("a"), run.goes("a"), run.goes("a")] == [True, False, False]
    assert run.turns.is_open("a")
    run.turns.passed("a")
    assert not run.turns.is_open("a")


def test_the_builder_of_the_image_goes_before_a_node_that_needs_it(make: Make) -> None:
    """Host of b must not begin before the builder a has passed: b's Serving would wait for the image, and a for b's turn."""
    run = make()
    run.census()
    host_of_b = run.waits("b", "a goes first")
    assert run.goes("a"), "Host of the builder"
    assert not run.goes("a"), "its Serving, with the image that it has built"
    run.turns.passed("a")
    assert host_of_b.result(PATIENCE)


def test_a_first_set_up_is_parallel(make: Make) -> None:
    run = make()
    run.census(a=NOTHING, b=NOTHING, c=NOTHING)
    assert [run.goes(name) for name in "cab"] == [False] * 3
    assert not run.turns.is_open("a")


def test_a_node_that_serves_nothing_needs_no_turn_beside_others_that_serve(make: Make) -> None:
    run = make()
    run.census(c=NOTHING)
    assert run.goes("a")
    assert not run.goes("c")
    assert not run.goes("of-no-census")


def test_a_dead_node_uses_up_the_budget_before_anything_is_touched(make: Make) -> None:
    run = make()
    run.census(c=DEAD)
    assert refusal(run.begin("a")) == (
        "a: not begun: out of service already: c does not answer\n"
        "  wanted: fewer than 1 (`at_once` of glm-fleet:change): a turn takes one node more out of service\n"
        "  next:   bring c back, give it `state: absent`, or raise `at_once`; then `pulumi up`"
    )
    assert not run.turns.is_open("a")


def test_a_dead_node_does_not_block_the_others_within_the_budget_and_its_failure_holds_nobody_back(make: Make) -> None:
    run = make(at_once=2)
    run.census(c=DEAD)
    assert run.goes("c"), "its change fails by itself, and waits for nobody"
    run.turns.failed("c", "failed", serves=False)
    assert run.goes("a")
    run.turns.passed("a")
    assert run.goes("b")


@pytest.mark.parametrize("standing", [DRAINED, BROKEN, UNFINISHED, UNREACHED])
def test_a_node_that_is_out_and_stays_out_uses_up_the_budget(make: Make, standing: Standing) -> None:
    run = make()
    run.census(c=standing)
    first = run.waits("a", "c is out of service (at_once is 1)")
    run.turns.resolved("c", True)  # the program: nothing of it changes in this run
    assert f"out of service already: c {standing}" in refusal(first)


def test_a_node_that_no_gateway_reaches_stays_out_of_service_after_its_turn(make: Make) -> None:
    run = make()
    run.census(c=UNREACHED)
    assert run.goes("c")
    run.turns.passed("c")
    assert "out of service already: c is reached by no gateway" in refusal(run.begin("a"))


@pytest.mark.parametrize("standing", [BROKEN, UNFINISHED])
def test_a_node_that_is_out_goes_first_and_gives_its_place_to_the_canary(make: Make, standing: Standing) -> None:
    run = make()
    run.census(c=standing)
    canary = run.waits("a", "c is out of service (at_once is 1)")
    assert run.goes("c")
    run.turns.passed("c")
    assert canary.result(PATIENCE)
    assert run.turns.standing("c") is SERVES


def test_a_node_that_an_operator_drained_stays_out_after_its_change(make: Make) -> None:
    run = make()
    run.census(c=DRAINED)
    assert run.goes("c")
    run.turns.passed("c")
    assert run.turns.standing("c") is DRAINED
    assert "out of service already: c is drained by an operator" in refusal(run.begin("a"))


def test_a_failed_node_that_serves_again_is_not_out_and_one_that_does_not_is(make: Make) -> None:
    run = make(at_once=2)
    run.census()
    run.turns.resolved("a", True)
    assert run.goes("b") and run.goes("c")
    run.turns.failed("b", "failed", serves=True)
    run.turns.failed("c", "failed", serves=False)
    assert [run.turns.standing(name) for name in "bc"] == [SERVES, BROKEN]


@pytest.mark.parametrize("before_census", [True, False])
def test_a_cancel_ends_every_wait_within_a_second(make: Make, before_census: bool) -> None:
    run = make()
    if not before_census:
        run.census()
    text = "the nodes are asked first who serves" if before_census else "a goes first"
    waiting = [run.waits(name, text) for name in "bc"]
    run.cancelled.set()
    assert not futures.wait(waiting, 1.0).not_done
    for future in waiting:
        with pytest.raises(errors.Cancelled, match="wait for its turn: cancelled"):
            future.result()


def test_a_run_that_has_stopped_lets_nobody_wait_for_ever(make: Make) -> None:
    """Without --continue-on-error the Pulumi engine requests nothing after a failure: a's turn would never end."""
    run = make(quiet=0.3)
    run.census()
    assert run.goes("a")
    assert refusal(run.begin("b")) == (
        "b: held back: the run has stopped while a goes first\n"
        "  wanted: its turn\n"
        "  next:   correct what failed; then `pulumi up` goes on where this stopped"
    )


def test_a_failure_before_the_census_ends_the_wait_for_it(make: Make) -> None:
    run = make(quiet=0.3)
    run.turns.alive(failed=True)
    assert "the run has stopped while the nodes are asked first" in refusal(run.begin("b"))


def test_before_the_census_a_run_without_a_failure_is_not_taken_for_stopped(make: Make) -> None:
    run = make(quiet=0.0)
    first = run.waits("a", "the nodes are asked first who serves")
    assert futures.wait([first], 0.7).not_done
    run.census()
    assert first.result(PATIENCE)


def test_a_run_in_which_somebody_works_has_not_stopped(make: Make) -> None:
    run = make(quiet=0.0)
    run.census()
    with run.turns.request():  # a build of an image
        waiting = run.waits("b", "a goes first")
        assert futures.wait([waiting], 0.7).not_done
    assert "the run has stopped" in refusal(waiting)


def test_an_unfinished_node_and_the_builder_that_wait_for_each_other_end_in_words(make: Make) -> None:
    """Serving of c waits for the image of a, whose Host waits for c."""
    run = make(quiet=0.3)
    run.census(c=UNFINISHED)
    assert "out of service already: c was left drained by an earlier run" in refusal(run.begin("a"))


def test_the_setting_is_read_with_its_defaults() -> None:
    assert Change.from_setting('{"at_once": 2, "hold": 5, "more": 1}') == Change(at_once=2, hold=5)
    assert Change.from_setting("{}") == Change(1, True, 60, 300, 0)


def test_twelve_nodes_with_two_at_once_are_never_more_than_two_out(make: Make) -> None:
    run = make(at_once=2)
    names = "abcdefghijkl"
    run.census(names)
    out, most, lock = set[str](), [0], threading.Lock()

    def change(name: str) -> None:
        with run.turns.request():
            run.turns.enter(name, lambda text: None, run.cancelled)
            with lock:
                out.add(name)
                most.append(len(out))
            threading.Event().wait(0.01)
            with lock:
                out.discard(name)
            run.turns.passed(name)

    with futures.ThreadPoolExecutor(12) as pool:
        done: Mapping[str, futures.Future[None]] = {name: pool.submit(change, name) for name in reversed(names)}
        for future in done.values():
            future.result(PATIENCE)
    assert max(most) == 2
