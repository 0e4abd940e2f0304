"""A flush by itself: what the worker can do meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from streams.config import Settings, Topic
from tests.fuzz.flushing import empty_flusher
from tests.reference import LogRecord

NOW = 1_795_404_333_123
MINUTE, DAY = 60_000, 86_400_000


def record(topic: Topic, **fields: Any) -> LogRecord:
    event = {"event_id": "e-1", "occurred_at": NOW, "campaign_id": "c-1", "channel": "search"} | fields
    return LogRecord(topic.value, 0, 0, NOW, b"c-1", json.dumps(event).encode())


async def test_a_report_that_lands_in_many_panes_lets_other_partitions_go_on() -> None:
    settings = Settings()
    tomorrow = NOW // MINUTE * MINUTE + DAY
    report = record(Topic.SPEND, platform="meta", amount="12.34", period_start=tomorrow, period_end=tomorrow + DAY)
    flusher = empty_flusher(Topic.SPEND, settings)
    long = asyncio.create_task(flusher.flush([report], NOW))
    while not (flusher.tables._touched or long.done()):
        await asyncio.sleep(0)
    flush = await empty_flusher(Topic.CLICKS, settings).flush([record(Topic.CLICKS)], NOW)
    assert flush.meta.applied == 1
    assert not long.done(), "a click was counted while the report was still being spread"
    assert (await long).meta.applied == 1
