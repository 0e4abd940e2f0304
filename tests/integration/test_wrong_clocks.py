"""A worker and producers whose clocks are wrong: nobody else's panes are closed, and an idle partition holds nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.api.times import read_time
from streams.config import Settings, Streams, Topic
from streams.embedded import EmbeddedBroker
from streams.topics import create_topics
from tests.integration.conftest import RedisServer
from tests.integration.workers import Ledger, ledger, own_settings, send, until, worker

MINUTE, DAY = 60_000, 86_400_000


def beyond(partition: Mapping[str, Any], moment: int) -> bool:
    return bool(partition["watermark"]) and read_time(partition["watermark"]) > moment


async def test_wrong_clocks_close_no_panes_for_the_others(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"streams": Streams(http_port=0, idle_timeout=5.0)})
    await create_topics(settings)
    now = int(time.time() * 1000)
    ages = [0, -4 * MINUTE, -6 * MINUTE, -400 * DAY, 2 * DAY, 500 * DAY]
    events: list[dict[str, Any]] = [
        # One campaign is one key, so one partition: the other stays idle.
        {"event_id": f"e-{i}", "occurred_at": now - age, "campaign_id": "c-1", "channel": "search"}
        for i, age in enumerate(ages)
    ]
    with worker(settings, tmp_path) as one:
        await send(settings, Topic.CLICKS, events)
        found = await until(lambda: ledger(one.url), lambda each: each.total("in") == len(events))
        assert {name: found.total(name) for name in ("applied", "quarantined", "too_late")} == {
            "applied": 3,
            "quarantined": 2,
            "too_late": 1,
        }
        [busy] = [p for p in found.partitions if p["in"]]
        assert read_time(busy["watermark"]) <= read_time(busy["record_time"]), "not by the clock that is four minutes fast"
        # All others are idle: in the end every partition lets the windows of these events be complete.
        await until(lambda: ledger(one.url), lambda each: all(beyond(p, now) for p in each.partitions))


def slowest(found: Ledger) -> int:
    """Epoch ms that every partition has reached."""
    return min(read_time(p["watermark"]) if p["watermark"] else 0 for p in found.partitions)


async def test_no_partition_is_idle_of_which_a_broker_that_is_away_tells_nothing(redis_server: RedisServer, tmp_path: Path) -> None:
    """Else windows would be complete, and judged, into which events come that producers could not send."""
    with EmbeddedBroker() as broker:
        settings = own_settings(broker, redis_server, streams=Streams(http_port=0, idle_timeout=2.0))
        await create_topics(settings)
        with worker(settings, tmp_path) as one:
            began = int(time.time() * 1000)
            await until(lambda: ledger(one.url), lambda found: slowest(found) > began)
            broker.pause()
            paused = int(time.time() * 1000)
            # Later than any note that the last answer allows.
            while time.time() * 1000 < paused + 12_000:
                assert slowest(ledger(one.url)) < paused + 5_000
                await asyncio.sleep(0.5)
            broker.resume()
            await until(lambda: ledger(one.url), lambda found: slowest(found) > paused + 12_000, timeout=60)
