"""Taking the lead, ticking while it lasts, letting go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic

from redis.asyncio import Redis
from redis.exceptions import RedisError

from alerts.app.evaluator import Evaluator
from alerts.app.lease import Lease
from alerts.app.metrics import AlertsMetrics
from alerts.incidents.store import FellBack, IncidentStore, LeaseLost
from alerts.rules.model import Rule
from streams.config import Settings
from streams.tables.reader import TableReader
from streams.tables.windows import TableError

logger = logging.getLogger(__name__)

#: Seconds between two attempts to take the lead, as a part of the lease; seconds between attempts without Redis.
_KNOCK, _REDIS_AWAY = 1 / 5, 1.0
#: Seconds behind the end of a pane's lateness at which it is surely written.
_WRITTEN = 1.0
#: Seconds that letting go may take when the process ends.
_LET_GO = 2.0


def next_tick(now: float, every: float, offset: float) -> float:
    """The first moment after `now` (epoch s) that is `offset` past a whole multiple of `every`."""
    return (math.floor((now - offset) / every) + 1) * every + offset


class Leader:
    """One replica's part in evaluating. `clock` gives the present time, aware."""

    def __init__(
        self,
        settings: Settings,
        rules: Sequence[Rule],
        tables: TableReader,
        redis: Redis,
        metrics: AlertsMetrics,
        *,
        name: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._tables = tables
        self._metrics = metrics
        self._clock = clock
        self._lease = Lease(redis, settings, name)
        # Outlives a term, so that the next one finds out when Redis lost what this one wrote.
        self._store = IncidentStore(redis, settings)
        # A pane that ends on the tick is complete when the watermark, which stays behind by the lateness, has passed it.
        self._offset = (settings.streams.lateness + _WRITTEN) % settings.alerts.tick
        #: Whether this replica leads.
        self.leads = False
        #: Clock time at which the replica last saw Redis answer: a tick, or the lease of another.
        self.seen_redis: datetime | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Lead whenever possible until `stop` is set. Redis being away is waited out; nothing is raised but cancellation."""
        while not stop.is_set():
            try:
                token = await self._lease.acquire()
                self.seen_redis = self._clock()
            except (RedisError, OSError) as error:
                logger.warning("Redis does not answer (%s); trying again", error)
                await _pause(stop, _REDIS_AWAY)
                continue
            if token is None:
                await _pause(stop, self._settings.alerts.lease * _KNOCK)
                continue
            await self._lead(token, stop)

    async def _lead(self, token: str, stop: asyncio.Event) -> None:
        logger.info("this replica leads (term %s)", token)
        self.leads = True
        self._metrics.leads(True)
        tasks = [
            asyncio.create_task(self._lease.keep(token), name="keep the lease"),
            asyncio.create_task(self._evaluate(token), name="tick"),
            asyncio.create_task(stop.wait(), name="wait for the end"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.leads = False
            self._metrics.leads(False)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_LET_GO):
                    await self._lease.release(token)
        if not stop.is_set():
            logger.warning("this replica does not lead any more (term %s)", token)

    async def _evaluate(self, token: str) -> None:
        """Tick until the lease turns out to be lost."""
        evaluator = Evaluator(self._settings, self._rules, self._tables, self._store, self._metrics, token)
        due = self._clock().timestamp()
        while True:
            begun = monotonic()
            self._metrics.tick_late.set(max(0.0, self._clock().timestamp() - due))
            try:
                outcome = await evaluator.tick(self._clock())
                self.seen_redis = self._clock()
            except LeaseLost:
                return
            except FellBack:
                outcome = "failed"
                logger.warning("this tick failed, Redis fell back more than once")
            except (RedisError, OSError) as error:
                outcome = "failed"
                logger.warning("this tick failed, Redis does not answer (%s)", error)
            except TableError as error:
                outcome = "failed"
                logger.error("this tick failed, the tables cannot answer: %s", error)
            except Exception:
                outcome = "failed"
                logger.exception("this tick failed")
            self._metrics.ticks.labels(outcome).inc()
            self._metrics.tick_seconds.observe(monotonic() - begun)
            now = self._clock().timestamp()
            due = next_tick(now, self._settings.alerts.tick, self._offset)
            await asyncio.sleep(due - now)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def wall_clock() -> datetime:
    """The present time; the only place of the process that reads it."""
    return datetime.now(UTC)
