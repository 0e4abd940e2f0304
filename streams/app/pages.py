"""The HTTP pages of a worker, in a process of their own.

A page over ten thousand campaigns is a dozen turns at the interpreter, and a worker that takes in events has it for itself nearly all the
time: in one process each waits for the other. The process is forked before there are threads or an event loop, reads the tables by itself,
and asks the worker over a pair of sockets for what only that knows: its health and its metrics. Worker and pages live and die together.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from streams.api.health import Health
from streams.config import Settings
from streams.errors import UserError
from streams.memory import collect_seldom

log = logging.getLogger(__name__)

#: Seconds that requests in flight and connections get when the pages are closed, and that the worker's loop may be held up for it.
_CLOSING, _MOMENT = 1.5, 0.2
#: Seconds for which what works out an answer keeps the interpreter while another request wants it.
_TURN = 0.001

#: The worker's metrics, in the form that an Accept header prefers: the exposition and its content type.
Render = Callable[[str], tuple[bytes, str]]


class Pages:
    """The pages of one worker. As a context manager they have ended on exit, whatever happened.

    To be made while the process has one thread and no event loop, as it forks.
    """

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("fork")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(settings, theirs, self._line), name="pages")
        self._process.start()
        theirs.close()
        self._sending = threading.Lock()
        self._started = False
        self._ended: Future[None] = _running()

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._line.close()

    async def start(self, render: Render, health: Callable[[], Health]) -> int:
        """Serve the pages; returns their port. `render` and `health` are called in a thread.

        Raises UserError when the address is taken or the pages would be open to all.
        """
        self._started = True
        served: Future[int] = _running()
        threading.Thread(target=self._talk, args=(render, health, served), name="answers to the pages", daemon=True).start()
        self._send(None)
        return await asyncio.wrap_future(served)

    async def ended(self) -> None:
        """Waits until the process has come to an end by itself, and raises RuntimeError."""
        await asyncio.wrap_future(self._ended)
        raise RuntimeError("the process that serves the pages ended by itself; see the log above. Start the worker again: nothing is lost")

    async def stop(self) -> None:
        """Close the port; requests in flight get a moment."""
        if self._started:
            self._send(None, wait=_MOMENT)
            await asyncio.to_thread(self._process.join, _CLOSING)

    def _send(self, message: Any, *, wait: float = -1) -> None:
        """A process that reads nothing any more keeps whoever sends waiting, but others for `wait` s only."""
        if not self._sending.acquire(timeout=wait):
            return
        try:
            self._line.send(message)
        except OSError:
            pass  # It has ended, which whoever reads from it is told.
        finally:
            self._sending.release()

    def _talk(self, render: Render, health: Callable[[], Health], served: Future[int]) -> None:
        """The first message is the port, or why there is none; all others are questions: a number, and an Accept header or None."""
        try:
            port = self._line.recv()
            if isinstance(port, int):
                served.set_result(port)
            else:
                served.set_exception(UserError(port))
            while True:
                number, accept = self._line.recv()
                self._send((number, self._answer(render, health, accept)))
        except (EOFError, OSError):
            if not served.done():
                served.set_exception(RuntimeError("the process that serves the pages did not start; see the log above"))
            self._ended.set_result(None)

    def _answer(self, render: Render, health: Callable[[], Health], accept: str | None) -> Any:
        try:
            return health() if accept is None else render(accept)
        except Exception as error:
            # All other questions are to be answered.
            log.exception("the pages' question could not be answered")
            return error


def _running() -> Future[Any]:
    """A future that nobody who waits for it can cancel."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def _run(settings: Settings, line: Connection, worker_end: Connection) -> None:
    """The process. It ends when its worker says so, or is no more."""
    # A signal to the whole group is for the worker to heed: the pages tell how its end goes on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    worker_end.close()
    # The worker loads Faust meanwhile.
    from streams.app.page_server import serve_until_told

    collect_seldom()
    sys.setswitchinterval(_TURN)
    try:
        line.recv()
    except (EOFError, OSError):
        return
    asyncio.run(serve_until_told(settings, line))
