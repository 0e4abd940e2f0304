"""How the tables should lie in Redis, and what the ladder of panes costs there: measured on a real server.

    python -m bench.table_layout                      # about a minute
    python -m bench.table_layout --campaigns 50000 --chunks 64,128,256 --report layout.json

The first table compares layouts of a pane's hash: chunks of so many rows of a cube in each field, and the plain one (`row`): a field per
campaign that holds bare integers. The product's own open tables, store, reader and API answers do all the work; only the content of a field
differs. The second table is the memory of the default cubes in the product's own layout, level by level of the default ladder.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from redis.asyncio import Redis

from bench.ladder_memory import measure_ladder, print_ladder
from bench.layouts import chunks_of, field_per_row
from bench.table_filling import NOW, Partition, events, names_of
from streams.api.kpis import KpiQuery, SeriesQuery, answer, series
from streams.api.query import Condition, Sort
from streams.api.span import Between
from streams.config import Kafka, Settings, Topic
from streams.embedded import EmbeddedRedis
from streams.ingest.aggregate import Facts
from streams.panes.ladder import DAY_MS, Ladder
from streams.tables import chunks
from streams.tables.reader import TableReader

TEN_SECONDS, MINUTE, QUARTER = 10_000, 60_000, 900_000
CAMPAIGN = {"campaign": ("campaign_id",)}
#: Of ten campaigns, those with an event in a pane of 10 s.
ACTIVE = {Topic.CLICKS: 0.6, Topic.CONVERSIONS: 0.1, Topic.ENGAGEMENTS: 1.0}
#: The plain layout's name.
ROW = "row"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a layout costs; `rows` in a field. Times are medians in ms; a flush is packed in this process, then written."""

    rows: str
    top_50_ms: float
    series_15m_ms: float
    series_1m_ms: float
    bytes_per_row: float
    flush_10000_pack_ms: float
    flush_10000_write_ms: float
    flush_500_pack_ms: float
    flush_500_write_ms: float
    #: What was answered, which must be the same for all.
    answers: str


async def measure_layout(url: str, rows: str, campaigns: int, partitions: int, repeat: int) -> Layout:
    """Fill the cube `campaign`, read the top 50 of five minutes and a campaign's day, and flush into a partition of all campaigns."""
    settings = Settings(kafka=Kafka(partitions=partitions))
    with field_per_row() if rows == ROW else chunks_of(int(rows)):
        async with Redis.from_url(url) as redis:
            bytes_per_row = await _fill(redis, settings, campaigns, partitions)
            answers, read = await _reads(TableReader(redis, settings), settings, campaigns, repeat)
            await redis.flushall()
            return Layout(rows, *read, bytes_per_row, *await _flushes(redis, settings, campaigns, repeat), answers)


async def _fill(redis: Redis, settings: Settings, campaigns: int, partitions: int) -> float:
    """The day's last six minutes of all campaigns; of the first partitions the whole day. Returns bytes per row of a minute's pane."""
    chance = np.random.default_rng(7)
    names = names_of(campaigns)
    used = rows = 0
    await redis.flushall()
    for topic in ACTIVE:
        for number in range(partitions):
            partition = await Partition.claimed(redis, settings, topic, number, Ladder(settings.streams.ladder), CAMPAIGN)
            starts = np.arange(NOW - 6 * MINUTE, NOW, TEN_SECONDS)
            own = np.arange(number, campaigns, partitions)
            campaign, times = np.repeat(own, len(starts)), np.tile(starts, len(own))
            on = chance.random(len(campaign)) < ACTIVE[topic]
            facts = events(topic, campaign[on], times[on], chance, names, sketches=False)
            await partition.flush(facts)
            used += await redis.memory_usage(partition.keys.pane(MINUTE, NOW - MINUTE), samples=0) or 0
            rows += len(np.unique(campaign[on][times[on] >= NOW - MINUTE]))
            if number == 0:
                await _copy_through_the_day(redis, partition)
    return used / rows


async def _copy_through_the_day(redis: Redis, partition: Partition) -> None:
    for size in (MINUTE, QUARTER):
        pipe = redis.pipeline(transaction=False)
        for start in range(NOW - DAY_MS, NOW - 6 * size, size):
            pipe.copy(partition.keys.pane(size, NOW - size), partition.keys.pane(size, start), replace=True)
        await pipe.execute()


async def _reads(reader: TableReader, settings: Settings, campaigns: int, repeat: int) -> tuple[str, tuple[float, float, float]]:
    # Not on the bounds of minutes, as a dashboard's window mostly is: panes of a minute with panes of 10 s at both ends.
    five = Between(NOW - 330_000, NOW - 30_000)
    columns = frozenset(("spend", "clicks", "ctr", "cpa", "roas"))
    top = KpiQuery("campaign", five, Sort("spend", descending=True), limit=50, columns=columns)
    where = (Condition("campaign_id", names_of(campaigns)[0]),)

    def top_50() -> Awaitable[Any]:
        return answer(top, reader, settings, NOW)

    def day_by(step: int) -> Callable[[], Awaitable[Any]]:
        return lambda: series(SeriesQuery("campaign", Between(NOW - DAY_MS, NOW), step, "spend", where), reader, settings, NOW)

    questions = (top_50, day_by(QUARTER), day_by(MINUTE))
    answers = hashlib.sha256("".join([str((await ask()).content()) for ask in questions]).encode()).hexdigest()
    first, second, third = [await median_ms(repeat, ask) for ask in questions]
    return answers, (first, second, third)


async def _flushes(redis: Redis, settings: Settings, campaigns: int, repeat: int) -> tuple[float, float, float, float]:
    """Clicks of all campaigns, again and again into the same panes: 10,000 at once, then 500."""
    chance = np.random.default_rng(8)
    names = names_of(campaigns)
    partition = await Partition.claimed(redis, settings, Topic.CLICKS, 0, Ladder(settings.streams.ladder), CAMPAIGN)

    def clicks(count: int) -> Facts:
        campaign = chance.permutation(campaigns)[np.arange(count) % campaigns]
        return events(Topic.CLICKS, campaign, np.full(count, NOW - 5_000), chance, names, sketches=False)

    await partition.flush(clicks(campaigns))
    result: list[float] = []
    for count in (10_000, 500):
        taken = [await partition.flush(clicks(count)) for _ in range(repeat)]
        result += (statistics.median(part) * 1000 for part in zip(*taken, strict=True))
    return result[0], result[1], result[2], result[3]


async def median_ms(repeat: int, ask: Callable[[], Awaitable[Any]]) -> float:
    """Median time of an answer; the first one, which warms caches up, is left out."""
    taken = []
    for _ in range(repeat + 1):
        began = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken[1:])


def print_layouts(layouts: Sequence[Layout], chosen: str) -> None:
    base = next((each for each in layouts if each.rows == chosen), layouts[0])
    for heads in (
        ("rows in", "top 50 of", "day by 15 min", "day by 1 min", "B a row", "10,000 events", "500 events"),
        ("a field", "5 min, ms", "ms", "ms", "and pane", "pack + write, ms", "pack + write, ms"),
    ):
        print(f"{heads[0]:>7} " + " ".join(f"{head:>18}" for head in heads[1:]))
    for each in layouts:
        compared = (
            (each.top_50_ms, base.top_50_ms),
            (each.series_15m_ms, base.series_15m_ms),
            (each.series_1m_ms, base.series_1m_ms),
            (each.bytes_per_row, base.bytes_per_row),
        )
        cells = [f"{value:,.1f} ({value / of:.2f}x)" for value, of in compared]
        cells.append(f"{each.flush_10000_pack_ms:.1f} + {each.flush_10000_write_ms:.1f}")
        cells.append(f"{each.flush_500_pack_ms:.1f} + {each.flush_500_write_ms:.1f}")
        print(f"{each.rows:>7} " + " ".join(f"{cell:>18}" for cell in cells))
    print(f"(in brackets: against {base.rows})")


async def machine_of(url: str) -> str:
    async with Redis.from_url(url) as redis:
        info = await redis.info("server")
    version = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {version}"


async def run(arguments: argparse.Namespace) -> None:
    compared = [rows for rows in arguments.chunks.split(",") if rows]
    with EmbeddedRedis() as server:
        machine = await machine_of(server.url)
        print(f"{machine}; {arguments.campaigns:,} campaigns, {arguments.partitions} partitions a topic, medians of {arguments.repeat}\n")
        layouts = [await measure_layout(server.url, rows, arguments.campaigns, arguments.partitions, arguments.repeat) for rows in compared]
        if len({each.answers for each in layouts}) > 1:
            raise SystemExit("the layouts do not give the same answers: nothing else that was measured counts")
        if layouts:
            print_layouts(layouts, str(chunks.CHUNK))
        steps = await measure_ladder(server.url, arguments.ladder_campaigns, arguments.rate) if arguments.ladder_campaigns else []
        if steps:
            print(
                f"\nThe default ladder: {arguments.ladder_campaigns} campaigns of {arguments.rate:g} events a minute, a partition a topic"
            )
            print_ladder(steps)
    if arguments.report:
        report = {"machine": machine, "layouts": [asdict(each) for each in layouts], "ladder": [asdict(step) for step in steps]}
        arguments.report.write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.table_layout", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default_partitions = Settings().kafka.partitions
    parser.add_argument("--campaigns", type=int, default=10_000, help="campaigns in the tables (default %(default)s)")
    parser.add_argument("--partitions", type=int, default=default_partitions, help="partitions of each topic (default %(default)s)")
    parser.add_argument("--chunks", default=f"{ROW},32,128,1024", help="rows in a field, to be compared (default %(default)s); '' for none")
    parser.add_argument("--repeat", type=int, default=15, help="measurements of which the median counts (default %(default)s)")
    parser.add_argument(
        "--ladder-campaigns", type=int, default=128, help="campaigns for the ladder's memory (default %(default)s); 0: skip"
    )
    parser.add_argument("--rate", type=float, default=6.0, help="events a minute of each, for the ladder's memory (default %(default)s)")
    parser.add_argument("--report", type=Path, help="also write the figures to this file, as JSON")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
