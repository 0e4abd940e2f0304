"""A process that is asked to end has status 0, also if something fails on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from streams import stopping
from streams.stopping import stopping_on_signals


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stopping, "end_within", lambda seconds, status: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_what_fails_after_the_signal_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()
    with stopping_on_signals(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        raise ConnectionError("the broker is going, too")
    assert "the broker is going, too" in caplog.text


async def test_what_fails_before_is_raised() -> None:
    with pytest.raises(ConnectionError, match="gone"), stopping_on_signals(asyncio.Event()):
        raise ConnectionError("gone")


def test_a_signal_between_the_loop_and_the_end_changes_no_status() -> None:
    program = """
        import asyncio, os, signal, sys
        from streams.stopping import stopping_on_signals

        async def main():
            with stopping_on_signals(asyncio.Event()):
                pass

        asyncio.run(main())
        os.kill(os.getpid(), signal.SIGTERM)
        sys.exit(2)
    """
    assert ended(program) == (2, "", "")


def test_an_end_that_a_thread_of_pythons_never_gets_to_comes_all_the_same() -> None:
    program = """
        import asyncio, ctypes, os, signal, threading
        from streams import stopping

        def keeps_the_interpreter():
            ctypes.PyDLL(None).sleep(50)

        async def main():
            stop = asyncio.Event()
            with stopping.stopping_on_signals(stop):
                os.kill(os.getpid(), signal.SIGTERM)
                await stop.wait()
                threading.Thread(target=keeps_the_interpreter).start()

        stopping.WITHIN = 0.5
        asyncio.run(main())
    """
    began = time.monotonic()
    status, _, said = ended(program)
    assert time.monotonic() - began < 30
    assert status == 1
    assert "in keeps_the_interpreter" in said


def test_leaving_waits_for_no_thread_and_loses_nothing_said() -> None:
    program = """
        import logging, sys, threading, time
        from streams.stopping import leave

        threading.Thread(target=time.sleep, args=(50,)).start()
        logging.basicConfig(stream=sys.stderr, format="%(message)s")
        logging.warning("the last warning")
        sys.stdout.write("the last word")
        leave()
    """
    began = time.monotonic()
    assert ended(program) == (0, "the last word", "the last warning\n")
    assert time.monotonic() - began < 30


def ended(program: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a program."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr
