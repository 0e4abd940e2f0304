"""What runs beside does not hold up the loop that asked for it, and ends with it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from streams.app.beside import Beside


async def nothing() -> None:
    """The last thing to do where there is none."""


async def test_what_it_comes_to_and_what_it_raises_come_back() -> None:
    beside = Beside("answers")

    async def answer(value: int) -> tuple[int, str]:
        if value < 0:
            raise ValueError("below 0")
        return value, threading.current_thread().name

    assert await beside.run(answer(7)) == (7, "answers")
    with pytest.raises(ValueError, match="below 0"):
        await beside.run(answer(-1))
    await beside.stop(nothing())


async def test_the_loop_beside_goes_on_while_something_computes() -> None:
    beside = Beside("answers")
    begun, over = threading.Event(), threading.Event()

    async def compute() -> bool:
        begun.set()
        return over.wait(20.0)

    computing = asyncio.create_task(beside.run(compute()))
    # Only this loop, which is not held up, can end what computes there.
    assert await asyncio.to_thread(begun.wait, 20.0)
    over.set()
    assert await computing
    await beside.stop(nothing())


async def test_who_is_cancelled_here_is_cancelled_there() -> None:
    beside = Beside("answers")
    begun, cancelled = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.create_task(beside.run(wait()))
    assert await asyncio.to_thread(begun.wait, 20.0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(cancelled.wait, 20.0)
    await beside.stop(nothing())


async def test_an_end_cancels_what_runs_and_does_the_last_thing() -> None:
    beside = Beside("answers")
    done: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            done.append("cancelled")

    async def last() -> None:
        done.append("last")

    waiting = asyncio.create_task(beside.run(wait()))
    await asyncio.sleep(0)
    await beside.stop(last())
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done in (["cancelled", "last"], ["last"])
    assert not any(thread.name == "answers" and thread.is_alive() for thread in threading.enumerate())
