"""The HTTP pages of a streams worker: its metrics, its health, and the tables.

They are answered in a thread with an event loop, connections to Redis and a reader of its own, so that nobody waits while the worker's loop
takes in thousands of events. What the worker says of itself it notes twice a second, in its own loop; the thread shows the newest note.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from redis.asyncio import Redis

from streams.api.health import Health
from streams.api.incidents import StoredIncidents
from streams.api.server import Server, build_app, serve
from streams.app.eviction import EvictionWatch
from streams.app.loop_thread import LoopThread
from streams.app.owners import AssignedPartitions
from streams.config import Settings
from streams.metrics.kpis import KpiMetrics
from streams.redis_client import connect
from streams.stopping import end_step
from streams.tables.reader import TableReader

log = logging.getLogger(__name__)

#: Seconds between two notes of the worker's state.
_NOTE_EVERY = 0.5
#: Seconds for which a thread keeps the interpreter while another wants it: a page needs it a dozen times.
_TURN = 0.001
#: Seconds for each of the last steps.
_CLOSING = 0.5


class WorkerState:
    """What a worker last noted of itself. A loop that does not come to noting anything for `limit` seconds is not alive."""

    def __init__(self, look: Callable[[], Health], limit: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._limit = limit
        self._clock = clock
        self.note()

    def note(self) -> None:
        """Look now. In the worker's own loop only."""
        self._noted = self._look(), self._clock()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(_NOTE_EVERY)
            try:
                self.note()
            except Exception:
                log.exception("the worker's state could not be noted")

    def health(self) -> Health:
        """The newest note, and how old it is; from any thread."""
        noted, at = self._noted
        silent = self._clock() - at
        health = replace(noted, details={**noted.details, "silent_seconds": round(silent, 1)})
        return health if silent < self._limit else replace(health, alive=False, ready=False)


class Pages:
    """The pages of one worker, from `start` to `stop`."""

    def __init__(self, settings: Settings, registry: CollectorRegistry, health: Callable[[], Health]) -> None:
        self._settings = settings
        self._registry = registry
        self._health = health
        self._thread = LoopThread("pages")
        self._redis: Redis | None = None
        self._server: Server | None = None
        self._kpis: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Serve the pages; returns their port. Raises UserError when the address is taken or would be open to all."""
        sys.setswitchinterval(_TURN)
        self._thread.start()
        return await self._thread.call(self._serve())

    async def stop(self) -> None:
        """Close the port; requests in flight get a moment."""
        await self._thread.call(self._close())
        await self._thread.stop()

    async def _serve(self) -> int:
        settings = self._settings
        self._redis = connect(settings)
        reader = TableReader(self._redis, settings)
        kpis = KpiMetrics(settings, reader, self._registry)
        app = build_app(
            settings,
            reader,
            clock=lambda: int(time.time() * 1000),
            metrics=self._metrics,
            health=self._health,
            incidents=StoredIncidents(self._redis, settings),
            registry=self._registry,
        )
        self._server = await serve(app, settings.streams.http_host, settings.streams.http_port)
        self._kpis = asyncio.create_task(kpis.run(), name="KPIs of /metrics")
        return self._server.port

    async def _close(self) -> None:
        if self._kpis is not None:
            self._kpis.cancel()
        if self._server is not None:
            await end_step("closing the pages", self._server.stop(), _CLOSING)
        if self._redis is not None:
            await end_step("closing the pages' connections to Redis", self._redis.aclose(), _CLOSING)

    def _metrics(self, accept: str) -> tuple[bytes, str]:
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type


def state_of(settings: Settings, owners: AssignedPartitions, eviction: EvictionWatch) -> WorkerState:
    """The state of a worker; its gauges are brought up to date with every note."""

    def look() -> Health:
        owners.update_gauges()
        return health_of(owners, eviction.unsafe)

    return WorkerState(look, settings.streams.stuck_after)


def health_of(owners: AssignedPartitions, may_drop_keys: str | None = None) -> Health:
    """Alive while no partition that has records waiting stands still by itself; ready while partitions are claimed and can be worked on.

    Not alive either is a worker that the consumer group does not take back. A worker that waits for Redis or Kafka is alive and not ready:
    a restart would not help.
    """
    stuck, hindered, outside = owners.stuck(), owners.hindered(), owners.outside()
    details = {
        "partitions": len(owners),
        "lag": owners.lag(),
        "stuck": stuck,
        "hindered": hindered,
        "outside_the_group": outside,
        "redis_may_drop_keys": may_drop_keys,
    }
    return Health(alive=not stuck and not outside, ready=owners.loaded and not hindered, details=details)
