"""A process that is asked to end has status 0, also if something fails on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
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
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "")
