"""Where the peers put the counts of the Yahoo Streaming Benchmark: a hash for each campaign, NAME:CAMPAIGN, window -> views."""

from __future__ import annotations

from redis import Redis

from bench.recordings import Answer


def counts_in(url: str, name: str) -> Answer:
    """What a contender called `name` has written."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    with Redis.from_url(url, decode_responses=True) as redis:
        for key in redis.scan_iter(match=f"{name}:*", count=1_000):
            for window, count in redis.hgetall(key).items():
                found[key.partition(":")[2], int(window)] = int(count), 0
    return found
