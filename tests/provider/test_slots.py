"""The bound on simultaneous Ansible runs: it holds, a waiting run reports it, and a cancel ends the wait."""

import threading
from concurrent import futures

import pytest

from fleet import errors
from fleet.provider.base import Request
from fleet.provider.slots import Slots
from tests.support.plugin import PATIENCE, urn


def new_request(messages: list[str], cancelled: threading.Event | None = None) -> Request:
    return Request(urn("Host"), lambda text, ephemeral: messages.append(text), cancelled or threading.Event())


def test_one_run_more_than_the_bound_reports_once_that_it_waits_for_a_place() -> None:
    slots, messages, waits = Slots(1), list[str](), threading.Event()
    request = Request(urn("Host"), lambda text, ephemeral: (messages.append(text), waits.set())[0], threading.Event())

    def work() -> None:
        with slots.hold(request):
            messages.append("works")

    with futures.ThreadPoolExecutor() as pool:
        with slots.hold(new_request(messages)):
            second = pool.submit(work)
            assert waits.wait(PATIENCE)
            assert not second.done()
        second.result(PATIENCE)
    assert messages == ["waits for other Ansible runs: `parallel` is 1", "works"]


def test_within_the_bound_no_run_waits() -> None:
    slots, messages = Slots(2), list[str]()
    with slots.hold(new_request(messages)), slots.hold(new_request(messages)):
        assert messages == []


def test_a_cancel_ends_the_wait() -> None:
    slots, cancelled = Slots(1), threading.Event()
    cancelled.set()
    with (
        slots.hold(new_request([])),
        pytest.raises(errors.Cancelled, match="cancelled"),
        slots.hold(new_request([], cancelled)),
    ):
        pass


def test_a_run_that_fails_gives_its_place_back() -> None:
    slots, messages = Slots(1), list[str]()
    with pytest.raises(errors.ConvergeFailed), slots.hold(new_request(messages)):
        raise errors.ConvergeFailed(seen="it broke")
    with slots.hold(new_request(messages)):
        assert messages == []
