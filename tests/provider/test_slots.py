"""How many Ansible runs work at once: the bound holds, who waits says so, and a cancel ends the wait."""

import threading
from concurrent import futures

import pytest

from fleet import errors
from fleet.provider.base import Request
from fleet.provider.slots import Slots
from tests.support.plugin import PATIENCE, urn


def asks(said: list[str], cancelled: threading.Event | None = None) -> Request:
    return Request(urn("Host"), lambda text, ephemeral: said.append(text), cancelled or threading.Event())


def test_one_more_than_the_bound_waits_and_says_so_once_until_a_place_is_free() -> None:
    slots, said, waits = Slots(1), list[str](), threading.Event()
    request = Request(urn("Host"), lambda text, ephemeral: (said.append(text), waits.set())[0], threading.Event())

    def work() -> None:
        with slots.hold(request):
            said.append("works")

    with futures.ThreadPoolExecutor() as pool:
        with slots.hold(asks(said)):
            second = pool.submit(work)
            assert waits.wait(PATIENCE)
            assert not second.done()
        second.result(PATIENCE)
    assert said == ["waits for other Ansible runs: `parallel` is 1", "works"]


def test_within_the_bound_nobody_waits() -> None:
    slots, said = Slots(2), list[str]()
    with slots.hold(asks(said)), slots.hold(asks(said)):
        assert said == []


def test_a_cancel_ends_the_wait() -> None:
    slots, cancelled = Slots(1), threading.Event()
    cancelled.set()
    with slots.hold(asks([])), pytest.raises(errors.Cancelled, match="cancelled"), slots.hold(asks([], cancelled)):
        pass


def test_a_run_that_fails_gives_its_place_back() -> None:
    slots, said = Slots(1), list[str]()
    with pytest.raises(errors.ConvergeFailed), slots.hold(asks(said)):
        raise errors.ConvergeFailed(seen="it broke")
    with slots.hold(asks(said)):
        assert said == []
