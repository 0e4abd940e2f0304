"""What remembering event ids costs: memory of worker and Redis, peaks while it grows, and what a new owner spends on reading.

python -m bench.dedupe_memory --millions 1 --millions 4
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from redis.asyncio import Redis

from streams.config import Settings, Topic
from streams.embedded import EmbeddedRedis
from streams.ingest.dedupe import Seen, digests
from streams.tables.keys import PartitionKeys
from streams.tables.store import PartitionStore

HOUR = 3_600_000
START = 1_795_435_200_000 // HOUR * HOUR
_FLUSH = 10_000
_MIB = 2**20


def resident(field: str) -> int:
    """Bytes: `VmRSS` now, `VmHWM` at most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


async def measure(millions: float, redis: Redis) -> None:
    """Ids spread evenly over an hour, admitted and stored in flushes of 10,000; then read back as a new owner does."""
    await redis.flushall()
    settings = Settings()
    keys = PartitionKeys("bench", settings.topic(Topic.CLICKS), 0)
    count = int(millions * 1_000_000)
    seen = Seen(HOUR)
    forget_peak()
    before, spent = resident("VmRSS"), 0.0
    for first in range(0, count, _FLUSH):
        ids = [f"00000000-0000-4000-8000-{i:012d}" for i in range(first, min(first + _FLUSH, count))]
        times = START + np.arange(first, first + len(ids)) * HOUR // count
        started = time.process_time()
        _, rows = seen.admit(digests(ids), times)
        spent += time.process_time() - started
        for part, its in seen.parts(rows):
            await redis.append(keys.seen(*part), its.tobytes())
    after, peak = resident("VmRSS"), resident("VmHWM")
    table = seen._table.slots * 24
    stored = [await redis.memory_usage(key, samples=0) or 0 async for key in redis.scan_iter(match=keys.tag + "seen:*")]
    assert len(seen) == count
    del seen, rows

    forget_peak()
    again, base = Seen(HOUR), resident("VmRSS")
    started = time.process_time()
    async for part, rows in PartitionStore(redis, keys, settings.all_cubes).seen(again.live_buckets(START + HOUR - 1)):
        again.load(part, rows)
    took = time.process_time() - started
    assert len(again) == count
    used, highest, reading = (each / _MIB for each in (after - before, peak - before, resident("VmHWM") - base))
    typer.echo(
        f"{millions:g} million ids: table {table / _MIB:.0f} MiB ({table / count:.0f} B an id), resident +{used:.0f} MiB, "
        f"at most +{highest:.0f} MiB; CPU {spent / count * 1e6:.2f} us an id; "
        f"Redis {sum(stored) / _MIB:.0f} MiB ({sum(stored) / count:.0f} B an id); "
        f"read back with {took:.2f} s of CPU, at most +{reading:.0f} MiB"
    )


async def _all(millions: list[float]) -> None:
    with EmbeddedRedis() as server:
        async with Redis.from_url(server.url) as redis:
            for each in millions:
                await measure(each, redis)


def main(millions: Annotated[list[float], typer.Option(help="million ids within the horizon; may be repeated")] = [1.0, 4.0]) -> None:  # noqa: B006
    """Measure each number of ids, one after another."""
    asyncio.run(_all(millions))


if __name__ == "__main__":
    typer.run(main)
