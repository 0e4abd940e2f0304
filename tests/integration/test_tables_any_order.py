"""Event time: however the same events are dealt to partitions, cut, interleaved and interrupted, the tables and the ledger are the same."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from streams.config import DIMENSIONS, Kafka, Money, Settings, SpendSource, Topic
from streams.config import Redis as RedisSettings
from streams.embedded import EmbeddedRedis
from streams.ingest.flush import PartitionFlusher
from streams.tables.reader import TableReader
from tests.hostile_log import DAY, HOUR, MINUTE
from tests.integration.conftest import client_of
from tests.integration.test_tables_exact import NOW, apply, assert_tables_equal, open_partition
from tests.reference import LogRecord, judge

TOPICS = (Topic.CLICKS, Topic.CONVERSIONS, Topic.ENGAGEMENTS, Topic.SPEND)
_numbers = itertools.count()
#: How old an event is against its record, ms: on time, overtaken, late for finer and finer panes, too late; ahead, just within, too far.
AGES = (0, 1, 9_999, 70_000, 2 * HOUR, 30 * HOUR, 36 * DAY, 399 * DAY, 402 * DAY, -1, -300_000, -300_001, -40 * DAY)

sent = st.fixed_dictionaries(
    {
        "topic": st.sampled_from(TOPICS),
        "id": st.integers(0, 5),
        "on": st.sampled_from((0, 1, 7_000, 61_000, 20 * MINUTE, HOUR, HOUR + 1)),
        "age": st.sampled_from(AGES),
        "campaign": st.sampled_from(("c-0", "c-1", "ü")),
        "kind": st.sampled_from(("purchase", "refund", "impression", "rating", "own")),
        "user": st.sampled_from((None, "u1", "u2")),
        "money": st.sampled_from(("0", "0.000001", "12.3456785", 7)),
        "broken": st.sampled_from((False, False, False, True)),
    }
)
#: (which partition goes on, with how many records, whether a new worker takes it over first)
steps = st.lists(st.tuples(st.integers(0, 7), st.integers(1, 5), st.booleans()), max_size=14)


def record(drawn: dict[str, Any], timestamp: int) -> tuple[bytes, bytes]:
    """Key and value of what was drawn. What repeats an id (spend: a period) has its campaign, so its key, too."""
    campaign = f"{drawn['campaign']}-{drawn['id']}"
    occurred = timestamp - drawn["age"]
    event = {
        "event_id": f"e-{drawn['id']}",
        "occurred_at": occurred,
        "campaign_id": campaign,
        "channel": "search",
        "user_id": drawn["user"],
    }
    event |= {"currency": "EUR" if drawn["id"] % 2 else "USD", "platform": "meta" if drawn["id"] % 3 else "google"}
    match drawn["topic"]:
        case Topic.CLICKS:
            event |= {"cost": drawn["money"]}
        case Topic.CONVERSIONS:
            event |= {"kind": drawn["kind"], "value": drawn["money"]}
        case Topic.ENGAGEMENTS:
            event |= {"kind": drawn["kind"], "cost": drawn["money"], "dwell_ms": drawn["id"] * 100, "rating": 4.5}
        case Topic.SPEND:
            start = (NOW - 3 * HOUR) // HOUR * HOUR
            event |= {"period_start": start, "period_end": start + 7 * MINUTE, "amount": drawn["money"], "revision": drawn["id"] % 3}
    if drawn["broken"]:
        del event["channel"]
    return campaign.encode(), json.dumps(event).encode()


async def deal(
    url: str, drawn: list[dict[str, Any]], partitions: list[int], order: list[tuple[int, int, bool]], name: str
) -> tuple[Counter[str], TableReader, Settings, Redis]:
    """Apply the log, its ids dealt to `partitions`, in the order of the steps; what is left over then in one batch each."""
    config = Settings(
        kafka=Kafka(topic_prefix="p"),
        redis=RedisSettings(url=url, namespace=name),
        money=Money(rates={"EUR": Decimal("1.0842")}, spend_sources={"meta": SpendSource.REPORTS}),
        cubes={},
    )
    log: dict[tuple[Topic, int], list[LogRecord]] = {}
    time = NOW - 6 * HOUR
    for each in drawn:
        time += each["on"]
        partition = partitions[each["id"]]
        records = log.setdefault((each["topic"], partition), [])
        records.append(LogRecord(config.topic(each["topic"]), partition, len(records), time, *record(each, time)))
    waiting = sorted(log)
    redis = client_of(url)
    owned: dict[tuple[Topic, int], PartitionFlusher] = {}
    for which, size, restarts in [*order, *((i, 10**6, False) for i in range(len(waiting) - 1, -1, -1))]:
        place = waiting[which % len(waiting)]
        batch, log[place] = log[place][:size], log[place][size:]
        if restarts or place not in owned:
            owned[place] = await open_partition(*place, config, redis)
        if batch:
            await apply(owned[place], batch)
    for flusher in owned.values():
        assert not await flusher._store.lost_panes(0), "every listed pane is there"
    reader = TableReader(redis, config)
    counts: Counter[str] = Counter()
    for p in await reader.ledger():
        assert p.read == p.applied + p.duplicate + p.too_late + p.quarantined
        counts.update(read=p.read, applied=p.applied, duplicate=p.duplicate, too_late=p.too_late, quarantined=p.quarantined)
    return counts, reader, config, redis


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(sent, min_size=1, max_size=14), partitions=st.lists(st.integers(0, 2), min_size=6, max_size=6), order=steps)
def test_the_tables_do_not_depend_on_partitions_batches_order_and_restarts(
    redis_server: EmbeddedRedis, drawn: list[dict[str, Any]], partitions: list[int], order: list[tuple[int, int, bool]]
) -> None:
    async def check() -> None:
        counts, reader, config, redis = await deal(redis_server.url, drawn, partitions, order, f"any-{next(_numbers)}")
        try:
            time, log = NOW - 6 * HOUR, []
            for number, each in enumerate(drawn):
                time += each["on"]
                log.append((each["topic"], LogRecord(config.topic(each["topic"]), 0, number, time, *record(each, time))))
            expected = judge(log, config, DIMENSIONS)
            totals: Counter[str] = Counter()
            for t in expected.totals.values():
                totals.update(read=t.read, applied=t.applied, duplicate=t.duplicate, too_late=t.too_late, quarantined=t.quarantined)
            assert counts == totals
            quarter = NOW // (15 * MINUTE) * 15 * MINUTE
            await assert_tables_equal(expected, reader, config, [(quarter - 7 * HOUR, quarter + 10 * HOUR)])
            days = [(NOW // DAY * DAY - 38 * DAY, NOW // DAY * DAY + DAY), (NOW // DAY * DAY - 399 * DAY, NOW // DAY * DAY - 390 * DAY)]
            await assert_tables_equal(expected, reader, config, days, cubes=("total", "campaign"))
        finally:
            await redis.flushall()
            await redis.aclose()

    asyncio.run(check())
