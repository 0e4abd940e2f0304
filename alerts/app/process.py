"""The alerts process: everything that one replica runs, and its orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

from alerts.app.leader import Leader, wall_clock
from alerts.app.metrics import AlertsMetrics
from alerts.notify.delivery import deliver_forever
from alerts.rules.model import Rule
from streams.api.health import Health
from streams.api.incidents import StoredIncidents
from streams.api.server import build_app, serve
from streams.config import Settings
from streams.redis_client import connect
from streams.stopping import end_step
from streams.tables.reader import TableReader

logger = logging.getLogger(__name__)

#: Without an answer of Redis for this many ticks the process is not ready, and for that many it asks to be restarted.
_READY_TICKS, _ALIVE_TICKS = 3, 30
#: Seconds that the tasks get to end.
_GRACE = 4.0
#: Seconds for each of the last steps.
_CLOSING = 1.0


async def run(
    settings: Settings, rules: Sequence[Rule], stop: asyncio.Event, *, clock: Callable[[], datetime] = wall_clock, name: str | None = None
) -> None:
    """Run one replica until `stop` is set: lead when possible, deliver, serve the pages.

    Raises UserError when its HTTP address cannot be had, or would show its pages to everybody. `name` tells replicas apart in the lease and
    the logs.
    """
    metrics = AlertsMetrics(rules)
    redis = connect(settings)
    reader = TableReader(redis, settings)
    leader = Leader(settings, rules, reader, redis, metrics, name=name or f"{socket.gethostname()}:{os.getpid()}", clock=clock)
    started = clock()

    async def health() -> Health:
        silence = clock() - (leader.seen_redis or started)
        details = {
            "leader": leader.leads,
            "redis_silent_seconds": round(silence.total_seconds(), 1),
            "seen_redis": leader.seen_redis is not None,
        }
        tick = timedelta(seconds=max(settings.alerts.tick, settings.alerts.lease))
        return Health(
            alive=silence < _ALIVE_TICKS * tick, ready=leader.seen_redis is not None and silence < _READY_TICKS * tick, details=details
        )

    async def exposition(accept: str) -> tuple[bytes, str]:
        return metrics.render(accept)

    app = build_app(
        settings,
        reader,
        clock=lambda: int(clock().timestamp() * 1000),
        metrics=exposition,
        health=health,
        incidents=StoredIncidents(redis, settings),
        registry=metrics.registry,
    )
    server = await serve(app, settings.alerts.http_host, settings.alerts.http_port)
    logger.info("alerts: %d rules, pages on %s", len(rules), server.url)
    try:
        await _until(
            stop,
            leader.run(stop),
            deliver_forever(settings, redis, registry=metrics.registry, clock=clock, stop=stop),
        )
    finally:
        await end_step("closing the pages", server.stop(), _CLOSING)
        await end_step("closing the connections to Redis", redis.aclose(), _CLOSING)
    logger.info("alerts: ended")


async def _until(stop: asyncio.Event, *jobs: Coroutine[Any, Any, None]) -> None:
    """Run the jobs until `stop` is set and they have ended, or the grace period is over. A job that fails stops all and is raised."""
    tasks = [asyncio.create_task(job) for job in jobs]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in tasks if task.done() and task.exception() is not None]
    stop.set()
    await asyncio.wait(tasks, timeout=_GRACE)
    for task in (stopping, *tasks):
        task.cancel()
    # A task that does not notice is left to the end of the process.
    await asyncio.wait([stopping, *tasks], timeout=_CLOSING)
    for task in failed:
        task.result()
