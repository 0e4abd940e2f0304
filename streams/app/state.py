"""What a worker says of itself.

It is noted twice a second in the worker's own loop, and the newest note is shown: so asking never waits for a loop that takes in thousands
of events, and a loop that has come to a halt is seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from streams.api.health import Health
from streams.app.eviction import EvictionWatch
from streams.app.owners import AssignedPartitions
from streams.config import Settings

log = logging.getLogger(__name__)

#: Seconds between two notes of the worker's state.
_NOTE_EVERY = 0.5


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
