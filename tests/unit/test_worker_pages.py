"""The pages of a worker are answered while its own loop is busy, and say when it is for too long."""

from __future__ import annotations

import asyncio
import time

import pytest

from streams.api.health import Health
from streams.app.loop_thread import LoopThread
from streams.app.pages import WorkerState


def test_a_loop_that_notes_nothing_is_not_alive() -> None:
    now = 100.0
    state = WorkerState(lambda: Health(alive=True, ready=True, details={}), 60.0, clock=lambda: now)
    assert state.health().alive and state.health().ready
    now = 159.0
    assert state.health().alive and state.health().details["silent_seconds"] == 59.0
    now = 160.0
    assert not state.health().alive and not state.health().ready
    state.note()
    assert state.health().alive


async def test_a_look_that_fails_is_looked_again() -> None:
    answers: list[Health | ValueError] = [Health(alive=True, ready=False), ValueError("not yet")]

    def look() -> Health:
        answer = answers.pop(0) if answers else Health(alive=True, ready=True)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    state = WorkerState(look, 60.0)
    task = asyncio.create_task(state.run())
    async with asyncio.timeout(10):
        while not state.health().ready:
            await asyncio.sleep(0.01)
    task.cancel()


async def test_work_in_the_thread_goes_on_while_this_loop_is_blocked() -> None:
    thread = LoopThread("beside")
    thread.start()
    done = []

    async def beside() -> str:
        await asyncio.sleep(0)
        done.append(time.monotonic())
        return "done"

    calling = asyncio.create_task(thread.call(beside()))
    await asyncio.sleep(0)
    deadline = time.monotonic() + 10
    # Nothing of this loop runs until the thread has.
    while not done:
        assert time.monotonic() < deadline
    assert await calling == "done"
    await thread.stop()


async def test_what_fails_in_the_thread_fails_here() -> None:
    thread = LoopThread("beside")
    thread.start()

    async def failing() -> None:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        await thread.call(failing())
    await thread.stop()
