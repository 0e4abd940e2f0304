"""A flush by itself: what the worker can do meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from typing import Any

import pytest

from streams.config import Settings, Topic
from streams.ingest.records import Record, Records
from tests.fuzz.flushing import empty_flusher

NOW = 1_795_404_333_123
MINUTE, DAY = 60_000, 86_400_000


def log_of(value: bytes | None) -> Records:
    return Records.of([Record(0, NOW, b"c-1", value)])


def event(**fields: Any) -> Records:
    plain = {"event_id": "e-1", "occurred_at": NOW, "campaign_id": "c-1", "channel": "search"}
    return log_of(json.dumps(plain | fields).encode())


@pytest.mark.parametrize("topic", [Topic.CLICKS, Topic.CAMPAIGNS])
async def test_refused_records_go_with_their_batch_and_wait_for_no_garbage_collector(topic: Topic) -> None:
    """What refers to itself in a circle stays until the collector runs, and a worker's runs seldom."""
    settings = Settings()
    gc.disable()
    try:
        for value in (b"{", b'{"a": 1}', b"[]", None if topic is Topic.CLICKS else b"", json.dumps({"campaign_id": 7}).encode()):
            records = log_of(value)
            flush = await empty_flusher(topic, settings).flush(records, NOW)
            assert flush.meta.quarantined == 1
            watched = weakref.ref(records)
            del records, flush
            # The thread that decoded lets go a moment after it has answered.
            async with asyncio.timeout(5):
                while watched() is not None:
                    await asyncio.sleep(0.01)
    finally:
        gc.enable()


async def test_a_clock_that_was_ahead_when_the_partition_was_idle_leaves_nothing_behind() -> None:
    flusher = empty_flusher(Topic.CLICKS, Settings())
    await flusher.flush(event(event_id="e-0"), NOW)
    ahead = NOW + 3_600_000
    flusher.meta.caught_up_at = ahead
    after = (await flusher.flush(event(event_id="e-1"), ahead)).meta
    assert after.event_time > NOW + DAY // 48, "an hour ahead as long as the clock says so"
    after = (await flusher.flush(event(event_id="e-2"), NOW + 1_000)).meta
    assert after.event_time <= NOW + 1_000


async def test_a_report_that_lands_in_many_panes_lets_other_partitions_go_on() -> None:
    settings = Settings()
    tomorrow = NOW // MINUTE * MINUTE + DAY
    report = event(platform="meta", amount="12.34", period_start=tomorrow, period_end=tomorrow + DAY)
    flusher = empty_flusher(Topic.SPEND, settings)
    long = asyncio.create_task(flusher.flush(report, NOW))
    while not (flusher.tables._touched or long.done()):
        await asyncio.sleep(0)
    flush = await empty_flusher(Topic.CLICKS, settings).flush(event(), NOW)
    assert flush.meta.applied == 1
    assert not long.done(), "a click was counted while the report was still being spread"
    assert (await long).meta.applied == 1
