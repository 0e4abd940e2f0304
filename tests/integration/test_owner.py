"""An owner of a partition when the program itself fails: one record goes to quarantine, and nothing stops for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from streams.config import Kafka, Settings, Streams, Topic
from streams.config import Redis as RedisSettings
from streams.events.refusal import Refusal
from streams.ingest import owner
from streams.ingest.facts import facts_of
from streams.ingest.owner import PartitionOwner
from streams.metrics.ingest import IngestMetrics
from streams.tables.keys import PartitionKeys
from streams.tables.opentables import OpenTables
from streams.tables.reader import TableReader
from streams.tables.store import PartitionStore
from tests.integration.workers import until
from tests.reference import LogRecord


@dataclass
class FakeLog:
    """A partition that is fetched again from wherever the owner asks."""

    records: Sequence[LogRecord]
    position: int = 0
    quarantined: list[tuple[int, str]] = field(default_factory=list)

    async def earliest(self) -> int:
        return 0

    async def seek_back(self, offset: int) -> None:
        self.position = offset

    def at_end(self, next_offset: int) -> bool:
        return next_offset >= len(self.records)

    async def quarantine(self, refused: Sequence[tuple[Any, Refusal]]) -> None:
        self.quarantined += [(record.offset, refusal.reason.value) for record, refusal in refused]


def log_of(*campaigns: str) -> list[LogRecord]:
    now = time.time_ns() // 1_000_000
    return [LogRecord("t.clicks", 0, i, now, name.encode(), json.dumps(click(i, name, now)).encode()) for i, name in enumerate(campaigns)]


def click(number: int, campaign: str, now: int) -> dict[str, Any]:
    return {"event_id": f"e-{number}", "occurred_at": now, "campaign_id": campaign, "channel": "search", "cost": "0.01"}


@asynccontextmanager
async def owning(redis_url: str, kafka: FakeLog) -> AsyncIterator[Callable[[], Any]]:
    """An owner that is fed from the log; gives a function that reads its ledger."""
    settings = Settings(
        kafka=Kafka(topic_prefix="t", session_timeout=2.0), redis=RedisSettings(url=redis_url), streams=Streams(flush_interval=0.01)
    )
    redis = Redis.from_url(redis_url)
    store = PartitionStore(redis, PartitionKeys(settings.redis.namespace, "t.clicks", 0), settings.all_cubes)
    metrics = IngestMetrics(CollectorRegistry())
    one = PartitionOwner(Topic.CLICKS, settings, store, kafka, metrics, clock=time.time, open_cells=lambda: 1_000_000)
    await one.start(0)

    async def feed() -> None:
        while True:
            batch = kafka.records[kafka.position : kafka.position + 40]
            if batch:
                kafka.position += len(batch)
                await one.take(batch)
            await asyncio.sleep(0.01)

    feeding = asyncio.create_task(feed())
    try:
        yield TableReader(redis, settings).ledger
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await one.release()
        await redis.aclose()


def fail_on_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(topic: Topic, columns: Any, *rest: Any) -> Any:
        if "poison" in columns.dimensions["campaign_id"]:
            raise ZeroDivisionError("a defect")
        return facts_of(topic, columns, *rest)

    monkeypatch.setattr("streams.ingest.flush.facts_of", failing)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once an owner holds the program to be at fault, not a record."""
    found = asyncio.Event()
    real = PartitionOwner._close_in_on

    def close_in_on(self: PartitionOwner, batch: Sequence[Any], error: Exception) -> float | None:
        pause = real(self, batch, error)
        if pause is None:
            found.set()
        return pause

    monkeypatch.setattr(PartitionOwner, "_close_in_on", close_in_on)
    return found


async def test_a_record_that_the_program_fails_on_is_quarantined_and_all_others_count(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on_poison(monkeypatch)
    names = ["good"] * 100
    names[17] = names[60] = "poison"
    kafka = FakeLog(log_of(*names))
    async with owning(redis_url, kafka) as ledger:
        (entry,) = await until(ledger, lambda found: bool(found) and found[0].read == 100)
    assert (entry.applied, entry.quarantined, entry.duplicate) == (98, 2, 0)
    assert kafka.quarantined == [(17, "unprocessable"), (60, "unprocessable")]


async def test_a_program_that_fails_on_everything_empties_no_topic_into_quarantine(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, waits: asyncio.Event
) -> None:
    fail_on_poison(monkeypatch)
    monkeypatch.setattr(owner, "_MOST_GIVEN_UP", 3)
    kafka = FakeLog(log_of(*["poison"] * 20))
    async with owning(redis_url, kafka) as ledger:
        await asyncio.wait_for(waits.wait(), 30)
        assert [(e.read, e.quarantined) for e in await ledger()] == [(3, 3)]
    assert len(kafka.quarantined) == 3


async def test_what_fails_without_the_record_too_waits(redis_url: str, monkeypatch: pytest.MonkeyPatch, waits: asyncio.Event) -> None:
    def take_commands(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(OpenTables, "take_commands", take_commands)
    kafka = FakeLog(log_of("good"))
    async with owning(redis_url, kafka) as ledger:
        await asyncio.wait_for(waits.wait(), 30)
        assert [e.read for e in await ledger()] == [0]
    assert kafka.quarantined == []
