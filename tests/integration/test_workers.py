"""The whole way of an event, and that nothing is lost or doubled on it: workers come, go, die, freeze; Redis dies and is away."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streams.config import DIMENSIONS, EVENT_TOPICS, Money, Settings, SpendSource, Streams, Topic
from streams.config import Redis as RedisSettings
from streams.embedded import EmbeddedRedis
from tests.hostile_log import DAY, hostile_log
from tests.integration.conftest import CreateTopics
from tests.integration.workers import Worker, applied, get, get_exact, ledger, records, rows, send, until, worker
from tests.reference import LogRecord, judge

#: Seconds that partitions may take to move to another worker: the session time-out of the tests' settings, and then some.
MOVED_WITHIN = 40.0
CENTS = Decimal("0.01")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Clicks:
    """A producer that goes on: clicks of 0.01 on twenty campaigns, each with an id of its own, some sent twice."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.sent = 0
        self.different = 0

    async def send(self, count: int) -> None:
        events: list[Any] = []
        for number in range(self.different, self.different + count):
            event = {
                "event_id": f"e-{number}",
                "occurred_at": now_ms(),
                "campaign_id": f"c-{number % 20}",
                "channel": "search",
                "cost": "0.01",
            }
            events += [event, event] if number % 10 == 0 else [event]
        self.different += count
        self.sent += await send(self._settings, Topic.CLICKS, events)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Send a little again and again while the block runs."""

        async def more() -> None:
            while True:
                await self.send(50)
                await asyncio.sleep(0.05)

        task = asyncio.create_task(more())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # A send that was cancelled half-way may have arrived or not: only the topic knows.
            self.sent = len(await records(self._settings, Topic.CLICKS, self.sent))
            found = [json.loads(r.value or b"")["event_id"] for r in await records(self._settings, Topic.CLICKS, self.sent)]
            self.different = len(set(found))

    async def all_counted_once(self, url: str) -> None:
        """Every record is in the ledger, every different click in the tables, once."""
        found = await applied(url, self.sent, timeout=MOVED_WITHIN)
        assert found.balanced
        assert (found.total("in"), found.total("applied")) == (self.sent, self.different)
        assert found.total("duplicate") == self.sent - self.different
        (total,) = rows(url, "total", window="1d").values()
        assert total["clicks"] == self.different
        assert Decimal(str(total["spend"])) == self.different * CENTS


async def test_the_tables_are_what_the_log_says(settings: Settings, make_topics: CreateTopics, tmp_path: Path) -> None:
    money = Money(rates={"EUR": Decimal("1.0842")}, spend_sources={"meta": SpendSource.REPORTS})
    settings = settings.model_copy(update={"money": money})
    await make_topics(settings)
    for topic in EVENT_TOPICS:
        made = [(record.key, record.value) for of, record in hostile_log(11, settings, now_ms(), 1_500) if of is topic]
        await send(settings, topic, made)
    log = [
        (topic, LogRecord(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value))
        for topic in EVENT_TOPICS
        for r in sorted(await records(settings, topic, 1), key=lambda r: (r.partition, r.offset))
    ]
    reference = judge(log, settings, DIMENSIONS)

    with worker(settings, tmp_path) as one:
        found = await applied(one.url, len(log), timeout=90)
        assert {
            (e["topic"], e["partition"]): (e["in"], e["applied"], e["duplicate"], e["too_late"], e["quarantined"])
            for e in found.partitions
            if e["in"]
        } == {key: (t.read, t.applied, t.duplicate, t.too_late, t.quarantined) for key, t in reference.totals.items()}
        assert all(e["applied_offset"] == e["in"] - 1 and e["start_offset"] == 0 for e in found.partitions if e["in"])
        end = now_ms() // DAY * DAY + 2 * DAY
        for cube, dimensions in settings.all_cubes.items():
            status, page = get_exact(f"{one.url}/api/kpis", cube=cube, from_=end - 30 * DAY, to=end, limit=1_000)
            assert status == 200, page
            shown = {tuple(row[d] for d in dimensions): row for row in page["rows"]}
            expected = reference.window(dimensions, end - 30 * DAY, end)
            assert shown.keys() == expected.keys()
            for key, measures in expected.items():
                for measure, amount in measures.items():
                    places = 6 if measure in MONEY else 2 if measure == "rating_sum" else 0
                    assert Decimal(shown[key][measure]) == Decimal(amount).scaleb(-places), (cube, key, measure)


MONEY = {"revenue", "refunds", "net_revenue", "event_cost", "reported_spend", "spend"}


async def test_two_workers_share_the_work_and_a_killed_ones_part_moves(ready: Settings, tmp_path: Path) -> None:
    clicks = Clicks(ready)
    with worker(ready, tmp_path) as one:
        async with clicks.going_on():
            await applied(one.url, 100)
            with worker(ready, tmp_path) as two:
                # Each notes what it has twice a second, so that for a moment both may name the same.
                await until(
                    lambda: (owned(one), owned(two)), lambda n: all(n) and sum(n) == 5 * ready.kafka.partitions, timeout=MOVED_WITHIN
                )
                one.kill()
                await until(lambda: owned(two), lambda n: n == 5 * ready.kafka.partitions, timeout=MOVED_WITHIN)
                with worker(ready, tmp_path) as three:
                    await until(lambda: owned(three), timeout=MOVED_WITHIN)
                    assert two.stop() == 0
                    await until(lambda: owned(three), lambda n: n == 5 * ready.kafka.partitions, timeout=MOVED_WITHIN)
                    before = ledger(three.url).total("in")
                    await applied(three.url, before + 100)
        with worker(ready, tmp_path) as last:
            await clicks.all_counted_once(last.url)


async def test_a_worker_that_was_frozen_and_wakes_up_changes_nothing(ready: Settings, tmp_path: Path) -> None:
    clicks = Clicks(ready)
    with worker(ready, tmp_path) as zombie:
        async with clicks.going_on():
            await applied(zombie.url, 100)
            zombie.pause()
            with worker(ready, tmp_path) as heir:
                await until(lambda: owned(heir), lambda n: n == 5 * ready.kafka.partitions, timeout=MOVED_WITHIN)
                zombie.resume()
                # It believes for a moment that all is still its own; a member again it shares with the heir.
                await until(lambda: 0 < owned(heir) < 5 * ready.kafka.partitions, timeout=MOVED_WITHIN)
                await until(lambda: owned(zombie) + owned(heir), lambda n: n == 5 * ready.kafka.partitions, timeout=MOVED_WITHIN)
                before = ledger(heir.url).total("in")
                await applied(heir.url, before + 100)
        await clicks.all_counted_once(zombie.url)


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(append_only="everysec") as server:
        yield server


async def test_redis_killed_and_back_with_an_older_state(ready: Settings, own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    settings = ready.model_copy(update={"redis": RedisSettings(url=own_redis.url, namespace=ready.redis.namespace, timeout=1.0)})
    clicks = Clicks(settings)
    with worker(settings, tmp_path) as one:
        async with clicks.going_on():
            await applied(one.url, 200)
            for _ in range(2):
                await asyncio.to_thread(own_redis.kill)
                assert (await until(lambda: get(f"{one.url}/readyz"), lambda answer: answer[0] == 503))[1]["details"]["hindered"]
                assert get(f"{one.url}/healthz")[0] == 200
                assert get(f"{one.url}/api/ledger")[0] == 503
                await asyncio.to_thread(own_redis.start)
                before = (await until(lambda: ledger(one.url))).total("in")
                await applied(one.url, before + 200, timeout=MOVED_WITHIN)
        await clicks.all_counted_once(one.url)


async def test_a_worker_ends_when_asked_also_without_redis(ready: Settings, own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    settings = ready.model_copy(update={"redis": RedisSettings(url=own_redis.url, timeout=1.0)})
    clicks = Clicks(settings)
    with worker(settings, tmp_path) as one:
        await clicks.send(100)
        await applied(one.url, clicks.sent)
        await asyncio.to_thread(own_redis.kill)
        await clicks.send(100)
        await until(lambda: get(f"{one.url}/readyz"), lambda answer: answer[0] == 503)
        began = time.monotonic()
        assert one.stop() == 0
        assert time.monotonic() - began < 10
    await asyncio.to_thread(own_redis.start)
    with worker(settings, tmp_path) as next_one:
        await clicks.all_counted_once(next_one.url)


async def test_the_metrics_say_what_the_ledger_and_the_tables_say(ready: Settings, tmp_path: Path) -> None:
    ready = ready.model_copy(update={"streams": Streams(http_port=0, idle_timeout=2.0)})
    clicks = Clicks(ready)
    with worker(ready, tmp_path) as one:
        began = time.monotonic()
        await clicks.send(300)
        await send(ready, Topic.CLICKS, [b"{", (None, {"event_id": "k", "occurred_at": now_ms(), "campaign_id": "c", "channel": "x"})])
        await applied(one.url, clicks.sent + 2)
        metrics = await until(lambda: scraped(one.url), lambda found: any(name == "campaignwatch_kpi" for name, _ in found))
        outcomes = {dict(labels)["outcome"]: int(v) for (name, labels), v in metrics.items() if name == "campaignwatch_events_total"}
        assert outcomes == {"applied": 301, "duplicate": 30, "too_late": 0, "quarantined": 1}
        assert metrics["campaignwatch_events_without_key_total", (("topic", ready.topic(Topic.CLICKS)),)] == 2
        assert metrics["campaignwatch_quarantined_total", (("reason", "malformed"), ("topic", ready.topic(Topic.CLICKS)))] == 1
        # Every record that was read was seen to become visible, some time between its being sent and now.
        topic = ("topic", ready.topic(Topic.CLICKS))
        count, total = (metrics[f"campaignwatch_visible_seconds_{part}", (topic,)] for part in ("count", "sum"))
        assert count == clicks.sent + 2
        assert 0 < total / count < time.monotonic() - began
        spend = ("campaignwatch_kpi", (("cube", "channel"), ("measure", "clicks"), ("row", "search"), ("window", "5m")))
        await until(lambda: scraped(one.url).get(spend, 0), lambda clicks: clicks > 0)


def owned(one: Worker) -> int:
    """Partitions that the worker holds and has loaded."""
    status, health = get(f"{one.url}/readyz")
    return int(health["details"]["partitions"]) if status == 200 else 0


def scraped(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of /metrics in OpenMetrics, by name and labels."""
    request = urllib.request.Request(f"{url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


@pytest.mark.apache
async def test_offsets_that_transactions_take_are_no_lost_records(ready: Settings, tmp_path: Path) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=ready.kafka.bootstrap_servers, transactional_id=f"gaps-{ready.kafka.topic_prefix}")
    await producer.start()
    try:
        with worker(ready, tmp_path) as one:
            for number in range(20):
                event = {"event_id": f"t-{number}", "occurred_at": now_ms(), "campaign_id": "c-1", "channel": "search"}
                async with producer.transaction():
                    await producer.send_and_wait(ready.topic(Topic.CLICKS), json.dumps(event).encode(), key=b"c-1")
                if number % 4 == 0:
                    # Now and then the worker has caught up, and now and then it has not.
                    await applied(one.url, number + 1)
            found = await applied(one.url, 20)
            assert (found.total("in"), found.total("applied")) == (20, 20)
            assert max(entry["applied_offset"] for entry in found.partitions) > 20
            # The log ends with what the last transaction left there, which is no record that waits.
            await until(lambda: get(f"{one.url}/readyz")[1]["details"], lambda details: details["lag"] == 0)
            await until(lambda: ledger(one.url), lambda seen: all(entry["watermark"] for entry in seen.partitions if entry["in"]))
    finally:
        await producer.stop()
