"""Where the programs of the Yahoo Streaming Benchmark put their counts: a hash for each campaign, NAME:CAMPAIGN, window -> views.

The original's layout without its detour over a made-up id for each window: one command for a window instead of four.
"""

from __future__ import annotations

from collections.abc import Iterable

import redis

from bench.contenders.reporting import Task


class Counts:
    """The hashes of one run; one round trip for each call."""

    def __init__(self, job: Task) -> None:
        self._redis = redis.Redis.from_url(job.redis)
        self._name = job.name

    def put(self, rows: Iterable[tuple[str, int, int]]) -> None:
        """(campaign, window, views): the views of the window, whatever stood there."""
        pipe = self._redis.pipeline(transaction=False)
        for campaign, window, views in rows:
            pipe.hset(f"{self._name}:{campaign}", str(window), views)
        pipe.execute()

    def add(self, rows: Iterable[tuple[str, int, int]]) -> None:
        """(campaign, window, views): so many more views of the window."""
        pipe = self._redis.pipeline(transaction=False)
        for campaign, window, views in rows:
            pipe.hincrby(f"{self._name}:{campaign}", str(window), views)
        pipe.execute()
