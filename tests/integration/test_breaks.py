"""Log and tables that do not continue each other, on the real thing: each case is found, told, counted, and what can be counted is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.records_to_delete import RecordsToDelete

from streams.config import Settings, Streams, Topic
from streams.tables.keys import PartitionKeys
from streams.tables.partition_counts import PartitionCounts
from streams.tables.store import PartitionStore
from streams.topics import create_topics
from tests.integration.conftest import client_of
from tests.integration.test_workers import now_ms, scraped
from tests.integration.workers import Ledger, applied, ledger, rows, send, until, worker


@asynccontextmanager
async def admin_of(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def clicks(first: int, count: int) -> list[dict[str, Any]]:
    now = now_ms()
    return [
        {"event_id": f"e-{number}", "occurred_at": now, "campaign_id": "c-1", "channel": "search", "cost": "0.01"}
        for number in range(first, first + count)
    ]


def entry_of(found: Ledger, settings: Settings, partition: int = 0) -> dict[str, Any]:
    (entry,) = (e for e in found.partitions if (e["topic"], e["partition"]) == (settings.topic(Topic.CLICKS), partition))
    return dict(entry)


def breaks(entry: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {found["kind"]: (found["times"], found["records"]) for found in entry["breaks"]}


async def make_again(settings: Settings) -> None:
    async with admin_of(settings) as admin:
        await admin.delete_topics([settings.topic(Topic.CLICKS)])

        async def gone() -> bool:
            return settings.topic(Topic.CLICKS) not in await admin.list_topics()

        await until(gone, lambda done: done)

    async def created() -> bool:
        return any(outcome.created for outcome in await create_topics(settings))

    await until(created, lambda done: done)


def total_clicks(url: str) -> int:
    return sum(int(row["clicks"]) for row in rows(url, "total", window="1d").values())


@pytest.mark.parametrize("records", [20, 300])
@pytest.mark.slow
async def test_a_topic_made_again_while_no_worker_ran(one_partition: Settings, tmp_path: Path, records: int) -> None:
    """Whether the new one has fewer records than were read of the old one, or more."""
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        one.stop()
    await make_again(one_partition)
    await send(one_partition, Topic.CLICKS, clicks(1_000, records))
    with worker(one_partition, tmp_path) as two:
        entry = await until(lambda: entry_of(ledger(two.url), one_partition), lambda e: e["in"] == records)
        assert breaks(entry) == {"topic_recreated": (1, 100)}
        assert (entry["start_offset"], entry["applied_offset"], entry["applied"]) == (0, records - 1, records)
        assert total_clicks(two.url) == 100 + records, "what the old one held stays until a rebuild"
        topic = one_partition.topic(Topic.CLICKS)
        assert scraped(two.url)["campaignwatch_breaks_total", (("kind", "topic_recreated"), ("topic", topic))] == 1
        assert "was deleted and made again" in two.said()


async def test_a_topic_made_again_under_a_running_worker(one_partition: Settings, tmp_path: Path) -> None:
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        await make_again(one_partition)
        await send(one_partition, Topic.CLICKS, clicks(1_000, 20))
        entry = await until(lambda: entry_of(ledger(one.url), one_partition), lambda e: e["in"] == 20, timeout=60)
        assert breaks(entry)["topic_recreated"] == (1, 100)
        assert total_clicks(one.url) == 120


@pytest.mark.apache
@pytest.mark.parametrize("running", [False, True])
async def test_retention_that_goes_past_a_worker(one_partition: Settings, tmp_path: Path, running: bool) -> None:
    partition = TopicPartition(one_partition.topic(Topic.CLICKS), 0)
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        if running:
            one.pause()
        else:
            one.stop()
        await send(one_partition, Topic.CLICKS, clicks(100, 100))
        async with admin_of(one_partition) as admin:
            await admin.delete_records({partition: RecordsToDelete(before_offset=150)})
        if running:
            one.resume()
        with worker(one_partition, tmp_path) as two:
            entry = await until(lambda: entry_of(ledger(two.url), one_partition), lambda e: e["applied_offset"] == 199, timeout=60)
            if not running:
                assert breaks(entry) == {"records_gone": (1, 50)}
                assert (entry["in"], entry["applied"]) == (150, 150)
                assert total_clicks(two.url) == 150
            else:
                # It may have fetched some before they went.
                assert entry["in"] == 200 - sum(gone for _, gone in breaks(entry).values())


@pytest.mark.slow
async def test_redis_emptied_while_no_worker_ran(one_partition: Settings, tmp_path: Path) -> None:
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        assert one.stop() == 0
    async with client_of(one_partition.redis.url) as redis:
        await redis.flushall()
    with worker(one_partition, tmp_path) as two:
        entry = await until(lambda: entry_of(ledger(two.url), one_partition), lambda e: e["in"] == 100)
        assert breaks(entry) == {"tables_fell_back": (1, 100)}
        assert total_clicks(two.url) == 100


async def test_bookkeeping_that_redis_lost_alone_counts_nothing_twice(one_partition: Settings, tmp_path: Path) -> None:
    keys = PartitionKeys(one_partition.redis.namespace, one_partition.topic(Topic.CLICKS), 0)
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        async with client_of(one_partition.redis.url) as redis:
            assert await redis.delete(keys.meta()) == 1
        await send(one_partition, Topic.CLICKS, clicks(100, 10))
        entry = await until(lambda: entry_of(ledger(one.url), one_partition), lambda e: e["in"] == 110)
        assert (entry["applied"], set(breaks(entry))) == (110, {"tables_fell_back"})
        assert total_clicks(one.url) == 110


@pytest.mark.parametrize("whole_log", [True, False])
async def test_panes_that_redis_lost_are_counted_again_as_far_as_the_log_goes(
    one_partition: Settings, tmp_path: Path, whole_log: bool
) -> None:
    keys = PartitionKeys(one_partition.redis.namespace, one_partition.topic(Topic.CLICKS), 0)
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        assert one.stop() == 0
    async with client_of(one_partition.redis.url) as redis:
        assert await redis.delete(*[key async for key in redis.scan_iter(match=f"{keys.tag}pane:*")]) > 0
        if not whole_log:
            # As if retention had deleted what came before the first record.
            await redis.hset(keys.meta(), "start_offset", -5)
    with worker(one_partition, tmp_path) as two:
        await send(one_partition, Topic.CLICKS, clicks(100, 10))
        entry = await until(lambda: entry_of(ledger(two.url), one_partition), lambda e: e["in"] == 110)
        assert breaks(entry) == {"tables_fell_back": (1, 100 if whole_log else 0)}
        assert total_clicks(two.url) == (110 if whole_log else 10)
        async with client_of(one_partition.redis.url) as redis:
            assert not await PartitionStore(redis, keys, one_partition.all_cubes).lost_panes(0), "what is gone is not looked for again"


@pytest.mark.slow
async def test_offsets_of_the_group_that_somebody_reset(one_partition: Settings, tmp_path: Path) -> None:
    topic = TopicPartition(one_partition.topic(Topic.CLICKS), 0)
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        assert one.stop() == 0
    # The stop committed them; the tables learn of it with the next records.
    with worker(one_partition, tmp_path) as two:
        await send(one_partition, Topic.CLICKS, clicks(100, 10))
        await applied(two.url, 110)
        assert two.stop() == 0
    assert await set_group_offset(one_partition, topic, 0) >= 100
    with worker(one_partition, tmp_path) as three:
        await send(one_partition, Topic.CLICKS, clicks(110, 10))
        entry = await until(lambda: entry_of(ledger(three.url), one_partition), lambda e: e["in"] == 120)
        assert breaks(entry) == {"group_offsets_moved": (1, 0)}
        assert total_clicks(three.url) == 120, "nothing is read twice"


@pytest.mark.apache
async def test_offsets_of_the_group_that_somebody_set_to_the_end(one_partition: Settings, tmp_path: Path) -> None:
    topic = TopicPartition(one_partition.topic(Topic.CLICKS), 0)
    for first, count in ((0, 100), (100, 10)):
        await send(one_partition, Topic.CLICKS, clicks(first, count))
        with worker(one_partition, tmp_path) as each:
            await applied(each.url, first + count)
            assert each.stop() == 0
    await send(one_partition, Topic.CLICKS, clicks(110, 10))
    await set_group_offset(one_partition, topic, 120)
    with worker(one_partition, tmp_path) as three:
        entry = await until(lambda: entry_of(ledger(three.url), one_partition), lambda e: e["in"] == 120)
        assert breaks(entry) == {"group_offsets_moved": (1, 0)}, "the tables did not fall back"
        assert total_clicks(three.url) == 120, "nothing is passed over"


async def set_group_offset(settings: Settings, partition: TopicPartition, offset: int) -> int:
    """As an operator's tool would while no worker runs; returns what it was."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        group_id=f"{settings.kafka.topic_prefix}-streams",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        before = await consumer.committed(partition)
        await consumer.commit({partition: offset})
        return before or 0
    finally:
        await consumer.stop()


async def test_who_knows_of_fewer_partitions_than_another_worker_has_asked_before(settings: Settings) -> None:
    async with client_of(settings.redis.url) as redis:
        counts = PartitionCounts(redis, settings)
        assert [await counts.swap("clicks", number, "one") for number in (4, 5, 4, 5, 4)] == [None, 4, None, None, None]
        assert await counts.swap("clicks", 2, "two") == 5, "made again"
        assert await counts.swap("clicks", 2, "two") is None
        assert await counts.swap("clicks", 5, "one") is None, "a worker that has not heard of it yet"
        assert await counts.swap("clicks", 3, "two") == 2


@pytest.mark.apache
async def test_partitions_that_were_added(one_partition: Settings, tmp_path: Path) -> None:
    name = one_partition.topic(Topic.CLICKS)
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 10))
        await applied(one.url, 10)
        async with client_of(one_partition.redis.url) as redis:

            async def known() -> bool:
                return bool(await redis.exists(f"{one_partition.redis.namespace}:partition_counts"))

            await until(known, lambda there: there, timeout=40)
        async with admin_of(one_partition) as admin:
            await admin.create_partitions({name: NewPartitions(total_count=3)})
        one.stop()
    with worker(one_partition, tmp_path) as two:
        found = await until(lambda: ledger(two.url), lambda seen: len([e for e in seen.partitions if e["topic"] == name]) == 3)
        entry = await until(lambda: entry_of(ledger(two.url), one_partition, 1), lambda e: e["breaks"])
        assert breaks(entry) == {"partitions_added": (1, 2)}
        assert entry_of(found, one_partition)["in"] == 10
        assert "had 1 partitions and has 3" in two.said()


async def test_more_ids_than_may_be_kept_is_said_aloud(one_partition: Settings, tmp_path: Path) -> None:
    settings = one_partition.model_copy(update={"streams": Streams(http_port=0, dedupe_ids=5_000)})
    with worker(settings, tmp_path) as one:
        for batch in range(8):
            await send(settings, Topic.CLICKS, clicks(batch * 1_000, 1_000))
            await applied(one.url, (batch + 1) * 1_000)
        entry = await until(lambda: entry_of(ledger(one.url), settings), lambda e: e["breaks"])
        assert breaks(entry)["ids_forgotten"][1] > 0
        labels = (("partition", "0"), ("topic", settings.topic(Topic.CLICKS)))
        metrics = scraped(one.url)
        assert metrics["campaignwatch_dedupe_ids", labels] <= 5_000
        assert metrics["campaignwatch_dedupe_seconds", labels] < settings.streams.dedupe_horizon
        assert "raise streams.dedupe_ids" in one.said()
        # The newest are known all the same.
        await send(settings, Topic.CLICKS, clicks(7_500, 500))
        await applied(one.url, 8_500)
        assert entry_of(ledger(one.url), settings)["duplicate"] == 500
