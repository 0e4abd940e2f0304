"""A TCP proxy on loopback that can be cruel: it cuts connections, delays them, leaves them half-open or refuses new ones.

It runs in a thread with an event loop of its own, so that nothing that the harness computes slows the traffic through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

from streams.embedded import ports

_CHUNK = 256 * 1024


class _Connection:
    """One client and its connection to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        #: What the client sends goes nowhere.
        self.drops_requests = False
        #: What the server answers goes nowhere: it did what was asked of it, and nobody hears of it.
        self.drops_answers = False

    def cut(self) -> None:
        """End both sides at once, without a good-bye."""
        for side in (self.client, self.server):
            side.transport.abort()


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`. The methods may be called from any thread; `target` may be set later."""

    def __init__(self, target: int = 0) -> None:
        self.port = ports.free_port()
        self.target = target
        #: Seconds that every piece is held back on its way, both ways.
        self.delay = 0.0
        self.refuses = False
        #: New connections lead nowhere.
        self.swallows = False
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {self.port}", daemon=True)
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Listen, unless it does already."""
        if self._server is not None:
            return
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, ports.HOST, self.port), self._loop).result(10)

    def close(self) -> None:
        """Stop listening and cut what is open."""
        if not self._thread.is_alive():
            return

        async def end() -> None:
            if self._server is not None:
                self._server.close()
            for connection in list(self._connections):
                connection.cut()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def heal(self) -> None:
        """Be a plain proxy again. Connections that were left half-open are cut."""
        self.delay, self.refuses, self.swallows = 0.0, False, False
        self._each(lambda c: c.cut() if c.drops_requests or c.drops_answers else None)

    def cut(self) -> None:
        """Cut every open connection."""
        self._each(_Connection.cut)

    def refuse(self) -> None:
        """Cut every open connection, and new ones at once, until healed."""
        self.refuses = True
        self.cut()

    def silence(self, *, answers_only: bool) -> None:
        """Leave the open connections half-open; new ones work. With `answers_only` the server still gets what is sent to it."""

        def mute(connection: _Connection) -> None:
            connection.drops_answers = True
            connection.drops_requests = not answers_only

        self._each(mute)

    def swallow(self) -> None:
        """Let all connections, open and new, lead nowhere until healed, as a network does that loses every packet."""
        self.swallows = True
        self.silence(answers_only=False)

    def _each(self, do: Callable[[_Connection], Any]) -> None:
        def run() -> None:
            for connection in list(self._connections):
                do(connection)

        self._loop.call_soon_threadsafe(run)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(ports.HOST, self.target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, far_writer)
        connection.drops_requests = connection.drops_answers = self.swallows
        self._connections.add(connection)
        ways = [
            asyncio.create_task(self._pump(reader, far_writer, lambda: connection.drops_requests)),
            asyncio.create_task(self._pump(far_reader, writer, lambda: connection.drops_answers)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for way in ways:
                way.cancel()
            connection.cut()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, dropped: Callable[[], bool]) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if not dropped():
                    sink.write(data)
                    await sink.drain()
