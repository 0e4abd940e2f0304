"""What the process of `streams.app.pages` does: serve the pages, with a reader of the tables of its own, on a loop of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from streams.api.health import Health
from streams.api.incidents import StoredIncidents
from streams.api.server import build_app, serve
from streams.app.beside import Beside
from streams.config import Settings
from streams.errors import UserError
from streams.metrics.exposition import exposition
from streams.metrics.kpis import KpiMetrics
from streams.redis_client import connect
from streams.stopping import end_step
from streams.tables.reader import TableReader

#: Seconds within which a worker answers; and how many questions it may leave without an answer before it is asked no more.
_PATIENCE, _UNANSWERED = 2.0, 20
#: Seconds for each of the last steps.
_CLOSING = 0.5
#: The last line of OpenMetrics.
_END = b"# EOF\n"


class Line:
    """The line to the worker. `closed` is set when the worker says that it is over, or is no more."""

    def __init__(self, line: Connection, *, patience: float = _PATIENCE) -> None:
        self._line = line
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._unanswered = 0
        self._heard_at = self._loop.time()
        self.closed = asyncio.Event()

    @property
    def silent(self) -> float:
        """Seconds since the worker answered anything."""
        return self._loop.time() - self._heard_at

    def listen(self) -> None:
        """Take in what the worker answers, in a thread."""
        threading.Thread(target=self._listen, name="answers of the worker", daemon=True).start()

    def say(self, message: Any) -> None:
        """Tell the worker something."""
        self._line.send(message)

    async def ask(self, accept: str | None) -> Any:
        """The worker's metrics for an Accept header, or its health. TimeoutError when it does not answer."""
        if self._unanswered > _UNANSWERED:
            raise TimeoutError
        number = next(self._numbers)
        answer = self._waiting[number] = self._loop.create_future()
        self._unanswered += 1
        try:
            self.say((number, accept))
            async with asyncio.timeout(self._patience):
                return await answer
        finally:
            del self._waiting[number]

    def _listen(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            with suppress(EOFError, OSError):
                while (message := self._line.recv()) is not None:
                    self._loop.call_soon_threadsafe(self._heard, *message)
            self._loop.call_soon_threadsafe(self.closed.set)

    def _heard(self, number: int, answer: Any) -> None:
        self._unanswered -= 1
        self._heard_at = self._loop.time()
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)


async def serve_until_told(settings: Settings, worker: Connection) -> None:
    """Serve the pages until the worker's line is closed. Its first message to the worker is the port, or why there is none."""
    line = Line(worker)
    line.listen()
    tables = Beside("answers about KPIs")
    redis = connect(settings)
    registry = CollectorRegistry()
    reader = TableReader(redis, settings)
    kpis = KpiMetrics(settings, reader, registry)

    async def metrics(accept: str) -> tuple[bytes, str]:
        """The worker's and those of this process."""
        try:
            theirs, content_type = await line.ask(accept)
        except OSError as error:
            raise web.HTTPServiceUnavailable(reason="the worker does not answer for its metrics") from error
        return theirs.removesuffix(_END) + exposition(registry, accept)[0], content_type

    async def health() -> Health:
        try:
            found: Health = await line.ask(None)
        except OSError:
            # A processor that is busy elsewhere is no reason to start it again.
            return Health(alive=line.silent < settings.streams.stuck_after, ready=False, details={"silent_seconds": round(line.silent, 1)})
        return found

    app = build_app(
        settings,
        reader,
        clock=lambda: int(time.time() * 1000),
        metrics=metrics,
        health=health,
        incidents=StoredIncidents(redis, settings),
        registry=registry,
        run=tables.run,
    )
    try:
        server = await serve(app, settings.streams.http_host, settings.streams.http_port)
    except UserError as error:
        line.say(str(error))
        return
    line.say(server.port)
    refreshing = asyncio.create_task(tables.run(kpis.run()), name="KPIs of /metrics")
    await line.closed.wait()
    refreshing.cancel()
    await end_step("closing the pages", server.stop(), _CLOSING)
    await end_step("closing the pages' connections to Redis", tables.stop(redis.aclose()), _CLOSING)
