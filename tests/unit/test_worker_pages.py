"""What a worker says of itself, and what its pages say when it does not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from multiprocessing import Pipe

import pytest

from streams.api.health import Health
from streams.app.page_server import Line
from streams.app.state import WorkerState


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


async def test_a_worker_that_does_not_answer_is_given_up_and_heard_again() -> None:
    here, there = Pipe()
    line = Line(here, patience=0.05)
    line.listen()
    for _ in range(30):
        with pytest.raises(TimeoutError):
            await line.ask(None)
    # It was not asked without end: what was not heard would fill the line.
    questions = 0
    while there.poll():
        there.recv()
        questions += 1
    assert 0 < questions < 30
    for number in range(questions):
        there.send((number, "late"))
    asking = None
    async with asyncio.timeout(10):
        while asking is None:
            answer = asyncio.create_task(line.ask("text/plain"))
            while await asyncio.to_thread(there.poll, 0.01):
                number, accept = there.recv()
                there.send((number, accept.upper()))
            with contextlib.suppress(TimeoutError):
                asking = await answer
    assert asking == "TEXT/PLAIN"
    there.close()
    async with asyncio.timeout(10):
        await line.closed.wait()


@pytest.mark.parametrize("message", [None, (1, "late")])
def test_what_a_worker_says_when_its_pages_are_over_disturbs_nobody(message: object, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = Pipe()

    async def listening() -> None:
        Line(here).listen()

    failed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    asyncio.run(listening())
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "answers of the worker" and thread.is_alive()]
    there.send(message)
    there.close()
    thread.join(10)
    assert not thread.is_alive()
    assert failed == []
