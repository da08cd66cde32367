"""The program's end waits once for all outputs, also for later ones, and raises a failure at once: fleet/sdk_patches/output_wait.py."""

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
        output_wait.apply()
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
        output_wait.apply()
        never = asyncio.ensure_future(told("never", [], asyncio.Event()))
        settings.SETTINGS.outputs |= {never, asyncio.ensure_future(fails())}
        try:
            await stack.wait_for_rpcs()
        finally:
            never.cancel()

    with pytest.raises(ValueError, match="a mistake in the program"):
        drive(program())


def waited_for(count: int, monkeypatch: pytest.MonkeyPatch, patched: bool) -> int:
    """Return for how many outputs a program of `count` waits at its end, each counted as often as it is waited for."""
    waits: list[int] = []
    wait = asyncio.wait

    async def counted(fs: set[asyncio.Future[None]], **options: str) -> object:
        waits.append(len(fs))
        return await wait(fs, **options)  # type: ignore[call-overload]

    async def program() -> None:
        monkeypatch.setattr(asyncio, "wait", counted)
        if patched:
            output_wait.apply()
        events = [asyncio.Event() for _ in range(count)]
        settings.SETTINGS.outputs |= {asyncio.ensure_future(told("", [], event)) for event in events}
        for place, event in enumerate(events):
            asyncio.get_running_loop().call_later(place * 0.001, event.set)
        await stack.wait_for_rpcs()

    drive(program())
    return sum(waits)


@pytest.mark.usefixtures("outputs")
def test_each_output_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waited_for(100, monkeypatch, patched=True) < 300


@pytest.mark.usefixtures("outputs")
def test_the_sdk_waits_again_for_all_outputs_after_each(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = waited_for(100, monkeypatch, patched=False)  # 5,000 when written
    assert waits > 1000, "fleet/sdk_patches/output_wait.py has no use any more: delete it"
