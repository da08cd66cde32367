"""The program's end waits for all outputs, also those that come while it waits, and tells a failure at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from pulumi.runtime import settings, stack

from fleet.sdk_patches import output_wait


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's settings as a program finds them that has declared nothing yet."""
    monkeypatch.setattr(settings, "SETTINGS", settings.Settings("glm-fleet", "test"))
    monkeypatch.setattr(stack, "SETTINGS", settings.SETTINGS)


def drive(program: Coroutine[Any, Any, None]) -> None:
    """Run it in a loop of its own: asyncio.run would leave those tests without one whose programs take the thread's."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(program)
    finally:
        loop.close()


async def told(value: str, heard: list[str], after: asyncio.Event | None = None) -> None:
    """An output that is there when `after` has come."""
    if after:
        await after.wait()
    heard.append(value)


@pytest.mark.usefixtures("outputs")
def test_an_output_that_comes_while_the_program_waits_is_waited_for() -> None:
    heard: list[str] = []

    async def program() -> None:
        output_wait.wait_once()
        later = asyncio.Event()

        async def first() -> None:
            settings.SETTINGS.outputs.add(asyncio.ensure_future(told("second", heard, later)))
            heard.append("first")
            asyncio.get_running_loop().call_soon(later.set)

        settings.SETTINGS.outputs.add(asyncio.ensure_future(first()))
        await stack.wait_for_rpcs()

    drive(program())
    assert heard == ["first", "second"]


@pytest.mark.usefixtures("outputs")
def test_a_failure_ends_the_wait_though_others_are_still_open() -> None:
    async def fails() -> None:
        raise ValueError("a mistake in the program")

    async def program() -> None:
        output_wait.wait_once()
        never = asyncio.ensure_future(told("never", [], asyncio.Event()))
        settings.SETTINGS.outputs |= {never, asyncio.ensure_future(fails())}
        try:
            await stack.wait_for_rpcs()
        finally:
            never.cancel()

    with pytest.raises(ValueError, match="a mistake in the program"):
        drive(program())


@pytest.mark.usefixtures("outputs")
def test_each_output_is_looked_at_once_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    wait = asyncio.wait

    async def counted(fs: set[asyncio.Future[None]], **options: str) -> object:
        waits.append(len(fs))
        return await wait(fs, **options)  # type: ignore[call-overload]

    async def program() -> None:
        monkeypatch.setattr(asyncio, "wait", counted)
        output_wait.wait_once()
        events = [asyncio.Event() for _ in range(100)]
        settings.SETTINGS.outputs |= {asyncio.ensure_future(told("", [], event)) for event in events}
        for place, event in enumerate(events):
            asyncio.get_running_loop().call_later(place * 0.001, event.set)
        await stack.wait_for_rpcs()

    drive(program())
    assert sum(waits) < 300  # the SDK's own wait: 5,000
