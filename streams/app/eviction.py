"""Watching that Redis cannot begin to drop keys while the workers run: its maxmemory-policy may be changed at any time."""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import CollectorRegistry, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.config import Settings
from streams.preflight import unsafe_eviction

log = logging.getLogger(__name__)


class EvictionWatch:
    """Looks every `redis.check_interval` seconds, and says what it finds in the log, a metric and /readyz."""

    def __init__(self, settings: Settings, redis: Redis, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._redis = redis
        self._gauge = Gauge(
            "campaignwatch_redis_eviction_policy_unsafe", "1 while Redis may drop keys when its memory is full", registry=registry
        )
        #: The server that may drop keys and its policy, in words; None while none may, as far as is known.
        self.unsafe: str | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                self._note(await unsafe_eviction(self._settings, self._redis))
            except (RedisError, OSError, TimeoutError) as error:
                # Others say loudly enough that Redis is away.
                log.debug("maxmemory-policy could not be read: %s", error)
            await asyncio.sleep(self._settings.redis.check_interval)

    def _note(self, unsafe: str | None) -> None:
        if unsafe is not None:
            log.error(
                "Redis at %s may drop tables when its memory is full, and the numbers would be wrong without a word; "
                "set maxmemory-policy to noeviction",
                unsafe,
            )
        elif self.unsafe is not None:
            log.warning("Redis no longer drops keys when its memory is full")
        self.unsafe = unsafe
        self._gauge.set(unsafe is not None)
