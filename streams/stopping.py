"""How a process ends that is asked to: in order if it can, and within seconds in any case."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from streams.errors import UserError

log = logging.getLogger(__name__)

#: Seconds from the signal to the end, whatever hangs. What was not applied by then is read again by the next owner.
WITHIN = 8.0
#: Seconds after which a process ends that does not even get to ending by itself.
_AT_THE_LATEST = 1.0
#: Seconds that something that is given up gets to notice.
_NOTICE = 1.0
#: Its descriptor: `sys.stderr` may be anything.
_STDERR = 2


@contextmanager
def stopping_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `stop`, and end the process with status 0 if it is still there `WITHIN` seconds later.

    What fails after the signal is logged and does not leave the context: an end that was asked for has status 0, also if the services are
    going away at the same time. A second signal ends the process at once. To be entered in the main thread, in the loop that `stop` is used
    in, before anything that can hang. A signal is heard when the main thread is back from whatever call of C it is in.
    """
    loop = asyncio.get_running_loop()
    asked = False

    # No handler of the loop: it would have to wait for a loop that something blocks.
    def ask(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        end_within(WITHIN, status=0)
        with suppress(RuntimeError):  # the loop is closed, the process is about to end by itself
            loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    try:
        yield
    except Exception as error:
        if not asked:
            raise
        log.warning("asked to end, and failed on the way: %r", error, exc_info=not isinstance(error, UserError))


def end_within(seconds: float, *, status: int) -> None:
    """End the process with that status after so many seconds, if it has not ended by then. Cannot be taken back.

    Threads of the libraries can keep a process from ending even after its last line. Where none of Python's threads gets to run, because
    one does not let go of the interpreter or the machine has no time for it, the process ends a second later with status 1; what each of
    its threads was doing is on stderr then.
    """
    # First, as to start a thread of Python's may be where it hangs.
    faulthandler.dump_traceback_later(seconds + _AT_THE_LATEST, exit=True, file=_STDERR)
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()


def leave() -> NoReturn:
    """End the process at once with status 0, after its last line.

    Python's own way out waits for threads of libraries and takes tables apart object by object, and no timer of Python's runs meanwhile.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(0)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Do the work and return True; or give it up once `stop` is set, and return False. Raises what the work raises."""
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        waiting.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_NOTICE)
            if task.done() and not task.cancelled() and task.exception() is not None:
                log.debug("given up, it failed: %r", task.exception())


async def end_step(doing: str, step: Coroutine[Any, Any, Any], seconds: float) -> None:
    """A step of an orderly end: it gets so many seconds, and must not keep the steps behind it from being taken. Logs what went wrong."""
    try:
        async with asyncio.timeout(seconds):
            await step
    except TimeoutError:
        log.warning("%s took longer than %g s and is left", doing, seconds)
    except Exception as error:
        log.warning("%s failed: %r", doing, error)
