"""The tables hold what the contract says, computed independently: every cube, odd windows, whatever order the batches come in."""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from decimal import Decimal

import pytest
from redis.asyncio import Redis

from streams.config import DIMENSIONS, Kafka, Money, Settings, SpendSource, Streams, Topic
from streams.config import Redis as RedisSettings
from streams.ingest import dedupe
from streams.ingest.claiming import claim
from streams.ingest.continuity import LogState
from streams.ingest.flush import PartitionFlusher
from streams.ingest.records import Records
from streams.tables.generations import PartitionTables
from streams.tables.reader import TableReader
from streams.tables.store import Fenced
from tests.hostile_log import DAY, HOUR, MINUTE, batches, hostile_log
from tests.reference import LogRecord, Reference, judge

NOW = 1_790_000_000_000 // DAY * DAY + 13 * HOUR + 7 * MINUTE


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(
        kafka=Kafka(topic_prefix="exact"),
        redis=RedisSettings(url=redis_url),
        streams=Streams(open_cells=10_000),
        money=Money(rates={"EUR": Decimal("1.0842")}, spend_sources={"meta": SpendSource.REPORTS}),
        cubes={"keyword": ("campaign_id", "keyword", "platform")},
    )


async def open_partition(topic: Topic, partition: int, settings: Settings, redis: Redis) -> PartitionFlusher:
    """Take over a topic-partition as a worker does after an assignment."""
    tables = PartitionTables(redis, settings, settings.topic(topic), partition)
    claimed = await claim(topic, settings, tables, LogState(earliest=0, end=1 << 40), NOW)
    assert claimed.findings == []
    return claimed.flusher


async def apply(flusher: PartitionFlusher, records: list[LogRecord]) -> None:
    before = flusher.meta.applied_offset
    flush = await flusher.flush(Records.of(records), NOW)
    await flusher._store.apply(before, flush.meta, flush.commands)
    flusher.tables.forget(flusher._settings.streams.open_cells)


async def assert_tables_equal(
    reference: Reference, reader: TableReader, settings: Settings, windows: list[tuple[int, int]], cubes: Collection[str] = ()
) -> None:
    """Of all cubes, or of those named."""
    for cube in cubes or settings.all_cubes:
        dimensions = settings.all_cubes[cube]
        for start, end in windows:
            window = await reader.window(cube, start, end)
            found = {
                key: {name: int(values[i]) for name, values in window.measures.items() if values[i]} for i, key in enumerate(window.rows)
            }
            assert found == reference.window(dimensions, start, end), f"{cube} over [{start}, {end})"
            users = {
                key: round(float(window.estimates["reach"][i])) for i, key in enumerate(window.rows) if window.estimates["reach"][i] > 0
            }
            assert users == reference.users(dimensions, start, end), f"reach of {cube} over [{start}, {end})"


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_tables_equal_the_log_when_workers_come_and_go(
    seed: int, settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedupe, "PART_ROWS", 10)
    chance = random.Random(seed)
    log = hostile_log(seed, settings, NOW, 2_000)
    owned: dict[tuple[Topic, int], PartitionFlusher] = {}
    for topic, partition, records in batches(chance, log, 300):
        if (topic, partition) not in owned or chance.random() < 0.1:
            owned[topic, partition] = await open_partition(topic, partition, settings, redis)
        await apply(owned[topic, partition], records)
    reference = judge(log, settings, DIMENSIONS)
    reader = TableReader(redis, settings)
    for flusher in owned.values():
        assert not await flusher._store.lost_panes(0), "every listed pane is there"
        assert not await flusher._store.lost_keys(0), "and every key is as long as it is said to be"

    ledger = {(p.topic, p.partition): (p.read, p.applied, p.duplicate, p.too_late, p.quarantined) for p in await reader.ledger()}
    assert ledger == {key: (t.read, t.applied, t.duplicate, t.too_late, t.quarantined) for key, t in reference.totals.items()}
    assert all(read == sum(parts) for read, *parts in ledger.values())
    ten = NOW // 10_000 * 10_000
    quarter = 15 * MINUTE
    await assert_tables_equal(
        reference,
        reader,
        settings,
        [
            (ten - 50 * MINUTE, ten),
            (ten - 7 * MINUTE - 10_000, ten - MINUTE - 20_000),
            (NOW // MINUTE * MINUTE - 25 * HOUR, NOW // MINUTE * MINUTE - 3 * MINUTE),
            (NOW // quarter * quarter - 30 * DAY - quarter, NOW // quarter * quarter + quarter),
            (NOW // DAY * DAY - 395 * DAY, NOW // DAY * DAY + 2 * DAY),
        ],
    )


async def test_a_series_adds_up_to_its_window(settings: Settings, redis: Redis) -> None:
    log = hostile_log(7, settings, NOW, 800)
    for topic, partition, records in batches(random.Random(7), log, 500):
        await apply(await open_partition(topic, partition, settings, redis), records)
    reader = TableReader(redis, settings)
    end = NOW // MINUTE * MINUTE
    window = await reader.window("campaign_channel", end - 20 * HOUR, end)
    series = await reader.series("campaign_channel", end - 20 * HOUR, end, MINUTE, measures=["spend", "impressions", "net_revenue"])
    sums = {name: dict(zip(series.rows, values.sum(axis=1).tolist(), strict=True)) for name, values in series.measures.items()}
    assert sums["spend"]
    for name, by_row in sums.items():
        expected = dict(zip(window.rows, window.measures[name].tolist(), strict=True))
        assert {k: v for k, v in by_row.items() if v} == {k: v for k, v in expected.items() if v}


async def test_a_worker_that_lost_its_partition_cannot_write(settings: Settings, redis: Redis) -> None:
    log = [record for topic, record in hostile_log(9, settings, NOW, 600, partitions=1) if topic is Topic.CLICKS]
    zombie = await open_partition(Topic.CLICKS, 0, settings, redis)
    await apply(zombie, log[:50])
    owner = await open_partition(Topic.CLICKS, 0, settings, redis)
    with pytest.raises(Fenced):
        await apply(zombie, log[50:60])
    await apply(owner, log[50:60])
    assert [p.read for p in await TableReader(redis, settings).ledger()] == [60]


async def test_ids_stored_in_parts_are_found_by_the_next_owner(settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "PART_ROWS", 3)
    topic = settings.topic(Topic.CLICKS)

    def click(offset: int, number: int) -> LogRecord:
        value = {"event_id": f"e-{number}", "occurred_at": NOW, "campaign_id": "c", "channel": "search"}
        return LogRecord(topic, 0, offset, NOW, b"c", json.dumps(value).encode())

    for first in range(0, 10, 2):
        owner = await open_partition(Topic.CLICKS, 0, settings, redis)
        await apply(owner, [click(first, first), click(first + 1, first + 1)])
    assert len([key async for key in redis.scan_iter(match="*:seen:*")]) == 3
    owner = await open_partition(Topic.CLICKS, 0, settings, redis)
    await apply(owner, [click(10 + number, number) for number in range(10)])
    assert (owner.meta.applied, owner.meta.duplicate) == (10, 10)


async def test_a_flush_whose_answer_was_lost_may_be_sent_again(settings: Settings, redis: Redis) -> None:
    log = [record for topic, record in hostile_log(9, settings, NOW, 600, partitions=1) if topic is Topic.CLICKS]
    flusher = await open_partition(Topic.CLICKS, 0, settings, redis)
    flush = await flusher.flush(Records.of(log), NOW)
    await flusher._store.apply(-1, flush.meta, flush.commands)
    before = await TableReader(redis, settings).window("total", NOW // DAY * DAY - DAY, NOW // DAY * DAY + DAY)
    await flusher._store.apply(-1, flush.meta, flush.commands)
    after = await TableReader(redis, settings).window("total", NOW // DAY * DAY - DAY, NOW // DAY * DAY + DAY)
    assert {k: v.tolist() for k, v in after.measures.items()} == {k: v.tolist() for k, v in before.measures.items()}
    assert after.measures["clicks"].sum() > 0
