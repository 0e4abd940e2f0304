"""What may stand between Campaignwatch and a server: TLS, and a network that is slow."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from typing import Self

from streams.embedded.ports import HOST


class Proxy:
    """Passes bytes on to a port of this machine, in a thread of its own. As a context manager it starts on entry and ends on exit.

    With `tls` it speaks TLS to whoever connects. Each piece of an answer is held back for `delay` seconds, which may be changed.
    """

    def __init__(self, to_port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.delay = 0.0
        self.port = 0
        self._to_port = to_port
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def lead_to(self, port: int) -> None:
        """Who connects from now on gets there; open connections stay where they are."""
        self._to_port = port

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._serve, HOST, 0, ssl=self._tls)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(HOST, self._to_port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(self._pass(reader, back, slowly=False), self._pass(there, writer, slowly=True))
        finally:
            for end in (writer, back):
                end.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, slowly: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if slowly and self.delay:
                    await asyncio.sleep(self.delay)
                target.write(data)
                await target.drain()
        target.close()
