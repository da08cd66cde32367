"""The program waits at its end once for all outputs, later ones too, and raises a failure at once: fleet/sdk_patches/output_wait.py."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from pulumi.runtime import settings, stack

from fleet.sdk_patches import output_wait


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's settings before a program declares its first resource."""
    monkeypatch.setattr(settings, "SETTINGS", settings.Settings("glm-fleet", "test"))
    monkeypatch.setattr(stack, "SETTINGS", settings.SETTINGS)


def drive(program: Coroutine[Any, Any, None]) -> None:
    """Run it in a loop of its own: asyncio.run would remove the thread's loop, which programs of other tests use."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(program)
    finally:
        loop.close()


async def output(value: str, values: list[str], after: asyncio.Event) -> None:
    """Add a value once `after` is set."""
    await after.wait()
    values.append(value)


@pytest.mark.usefixtures("outputs")
def test_the_program_waits_for_an_output_that_another_one_adds() -> None:
    values: list[str] = []

    async def program() -> None:
        output_wait.apply()
        later = asyncio.Event()

        async def first() -> None:
            settings.SETTINGS.outputs.add(asyncio.ensure_future(output("second", values, later)))
            values.append("first")
            asyncio.get_running_loop().call_soon(later.set)

        settings.SETTINGS.outputs.add(asyncio.ensure_future(first()))
        await stack.wait_for_rpcs()

    drive(program())
    assert values == ["first", "second"]


@pytest.mark.usefixtures("outputs")
def test_a_failure_ends_the_wait_though_others_are_still_open() -> None:
    async def fails() -> None:
        raise ValueError("a mistake in the program")

    async def program() -> None:
        output_wait.apply()
        never = asyncio.ensure_future(output("never", [], asyncio.Event()))
        settings.SETTINGS.outputs |= {never, asyncio.ensure_future(fails())}
        try:
            await stack.wait_for_rpcs()
        finally:
            never.cancel()

    with pytest.raises(ValueError, match="a mistake in the program"):
        drive(program())


async def set_each(events: list[asyncio.Event]) -> None:
    for event in events:
        event.set()
        for _ in range(10):  # turns of the loop, in which a wait for this output ends
            await asyncio.sleep(0)


def count_waits(count: int, monkeypatch: pytest.MonkeyPatch, patched: bool) -> int:
    """Return how often a program of `count` outputs waits for one at its end."""
    waits: list[int] = []
    wait = asyncio.wait

    async def counting_wait(fs: set[asyncio.Future[None]], **options: str) -> object:
        waits.append(len(fs))
        return await wait(fs, **options)  # type: ignore[call-overload]

    async def program() -> None:
        monkeypatch.setattr(asyncio, "wait", counting_wait)
        if patched:
            output_wait.apply()
        events = [asyncio.Event() for _ in range(count)]
        settings.SETTINGS.outputs |= {asyncio.ensure_future(output("", [], event)) for event in events}
        one_by_one = asyncio.ensure_future(set_each(events))
        await stack.wait_for_rpcs()
        await one_by_one

    drive(program())
    return sum(waits)


@pytest.mark.usefixtures("outputs")
def test_the_patched_sdk_waits_for_each_output_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_waits(100, monkeypatch, patched=True) < 300


@pytest.mark.usefixtures("outputs")
def test_the_sdk_waits_again_for_all_outputs_after_each(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = count_waits(100, monkeypatch, patched=False)  # 5,000 when written
    assert waits > 1000, "fleet/sdk_patches/output_wait.py is no longer needed: delete it"
