"""When records become visible: the applied offsets in Redis, asked for all the time by a process of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from redis import Redis

from bench.figures import Floats, Ints
from streams.tables.keys import PartitionKeys


@dataclass(frozen=True, slots=True)
class Watch:
    """Look at `partitions` of a topic every `step` seconds until `records` are applied in all, or for `limit` seconds."""

    url: str
    namespace: str
    topic: str
    partitions: int
    records: int
    limit: float
    step: float = 0.01


@dataclass(frozen=True, slots=True)
class Watched:
    """Every change that was seen. `polled_at`: the clock, epoch s, when the answer was there; `applied`: offsets, a column a partition."""

    polled_at: Floats
    applied: Ints

    @property
    def totals(self) -> Ints:
        """Records applied in all partitions."""
        totals: Ints = self.applied.sum(axis=1) + self.applied.shape[1]
        return totals


def watch(plan: Watch) -> Watched:
    """Watch to the end. To be run in a process of its own. Raises TimeoutError when not all was applied in time."""
    keys = [PartitionKeys(plan.namespace, plan.topic, partition).meta() for partition in range(plan.partitions)]
    polled_at: list[float] = []
    applied: list[list[int]] = []
    with Redis.from_url(plan.url) as redis:
        end = time.monotonic() + plan.limit
        while True:
            pipe = redis.pipeline(transaction=False)
            for key in keys:
                pipe.hget(key, "applied_offset")
            found = [int(value) if value is not None else -1 for value in pipe.execute()]
            now = time.time()
            if not applied or found != applied[-1]:
                polled_at.append(now)
                applied.append(found)
            total = sum(found) + len(found)
            if total >= plan.records:
                return Watched(np.array(polled_at), np.array(applied, np.int64))
            if time.monotonic() > end:
                raise TimeoutError(f"{total:,} of {plan.records:,} records of {plan.topic} were applied within {plan.limit:.0f} s")
            time.sleep(plan.step)
